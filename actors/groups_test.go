package actors

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	groups "postern/internal/allow"
	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// directory is a backend of which each user has groups. Every user has the password "good".
type directory struct {
	sync.Mutex
	groups map[string][]string // without an entry the groups of a user are not said
	away   bool
	asked  int
}

func (d *directory) ask(_ context.Context, q backend.Query) backend.Result {
	d.Lock()
	defer d.Unlock()
	d.asked++
	if d.away {
		return backend.Result{Class: backend.Outage}
	}
	r := goodPassword(q)
	if groups, said := d.groups[q.User]; said && r.Class == backend.Accepted {
		r.Known, r.Groups = true, auth.GroupsOf(q.Groups, groups)
	}
	return r
}

// set changes the groups of a user.
func (d *directory) set(user string, groups ...string) {
	d.Lock()
	defer d.Unlock()
	d.groups[user] = groups
}

func (d *directory) leave(away bool) {
	d.Lock()
	defer d.Unlock()
	d.away = away
}

// questions is how often it was asked since the last call.
func (d *directory) questions() int {
	d.Lock()
	defer d.Unlock()
	n := d.asked
	d.asked = 0
	return n
}

func newDirectory() *directory {
	return &directory{groups: map[string][]string{"both": {"mail", "chat", "x"}, "mailer": {"mail"}, "chatter": {"chat"}, "none": {}}}
}

// byGroups has a rig's domain let the group mail use imap and smtp, and the group chat use xmpp.
func byGroups(s *setup, d *directory) {
	s.fake.ask = d.ask
	s.cfg.Domains[0].Allow = []groups.Block{
		{Groups: []string{"mail"}, Services: []string{"imap", "smtp"}}, {Groups: []string{"chat"}, Services: []string{"xmpp"}},
	}
}

// allowed checks an answer that the account's groups decide.
func (r *rig) allowed(what string, a auth.Answer, want auth.Verdict) {
	r.t.Helper()
	if a.Verdict != want || want != auth.Allow && a.Source != auth.SourceGroups {
		r.t.Errorf("%s: %v (%v), %q; want %v", what, a.Verdict, a.Source, a.Reason, want)
	}
}

// TestGroups: the groups of an account are a condition of every way in, by the service, and a hot login by that costs
// the backend nothing.
func TestGroups(t *testing.T) {
	d := newDirectory()
	r := appRig(t, func(s *setup) { byGroups(s, d); withTokens(s) })
	for user, want := range map[string]map[string]auth.Verdict{
		"both":    {"imap": auth.Allow, "xmpp": auth.Allow, "sieve": auth.Allow, "": auth.Allow},
		"mailer":  {"imap": auth.Allow, "xmpp": auth.Deny, "sieve": auth.Allow, "": auth.Deny},
		"chatter": {"smtp": auth.Deny, "xmpp": auth.Allow},
		"none":    {"imap": auth.Deny, "sieve": auth.Allow},
		"unsaid":  {"imap": auth.Unavailable, "xmpp": auth.Unavailable, "sieve": auth.Allow, "": auth.Unavailable},
	} {
		secrets := map[string]string{"password": "good", "app password": r.add(user, apppassword.New{Name: "phone"}), "token": r.jsxcToken(user, time.Hour)}
		for service, verdict := range want {
			for kind, secret := range secrets {
				r.allowed(user+" by "+kind+" for "+service, r.login(user, service, secret), verdict)
			}
			r.allowed(user+" by a one-time token for "+service, r.login(user, service, r.totpToken(user)), verdict)
		}
		d.questions()
		for service, verdict := range want {
			if verdict == auth.Unavailable {
				continue
			}
			for kind, secret := range secrets {
				r.allowed(user+" again by "+kind+" for "+service, r.login(user, service, secret), verdict)
			}
		}
		if n := d.questions(); n != 0 {
			t.Errorf("%s: hot logins put %d questions", user, n)
		}
	}
	if a := r.login("none", "imap", "good"); !strings.Contains(a.Reason, "in none of the groups mail (for imap)") {
		t.Errorf("the reason is %q", a.Reason)
	}
	r.want(r.login("none", "imap", "bad"), auth.Deny, auth.SourceBackend)
	r.want(r.ask(auth.Request{Op: auth.OpIsUser, User: "none", Domain: "dom.example"}), auth.Allow, auth.SourceHot)
	if !strings.Contains(r.log.String(), "in none of the groups mail (for imap)") {
		t.Error("the log lacks the reason")
	}
}

// TestGroupsColdLogin: a cold login puts one question, whatever becomes of it.
func TestGroupsColdLogin(t *testing.T) {
	d := newDirectory()
	r := appRig(t, func(s *setup) { byGroups(s, d); withTokens(s) })
	for user, want := range map[string]auth.Verdict{"mailer": auth.Allow, "chatter": auth.Deny} {
		for kind, secret := range map[string]string{"password": "good", "app password": r.add(user, apppassword.New{Name: "phone"}), "token": r.jsxcToken(user, time.Hour)} {
			r.asForgotten(user)
			d.questions()
			r.allowed(user+" by "+kind, r.login(user, "imap", secret), want)
			if n := d.questions(); n != 1 {
				t.Errorf("%s by %s: %d questions", user, kind, n)
			}
		}
	}
}

// asForgotten has the cache forget a user.
func (r *rig) asForgotten(user string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := r.ForgetUser(ctx, auth.Identity{User: user, Domain: "dom.example"}); err != nil {
		r.t.Fatal(err)
	}
}

// TestGroupsFronts: the services are those that the fronts say, and the peers get the three verdicts.
func TestGroupsFronts(t *testing.T) {
	d := newDirectory()
	r := newRig(t, func(s *setup) { byGroups(s, d) })
	dovecot := r.dovecot(t, r.listen(listenerBlock("dovecot")), 1)
	for i, c := range []struct{ user, verdict, more string }{
		{"mailer", "OK", "@dom.example"}, {"chatter", "FAIL", ""}, {"unsaid", "FAIL", "\ttemp\tcode=temp_fail"},
		{"mailer", "OK", "@dom.example"}, {"chatter", "FAIL", ""}, {"unsaid", "FAIL", "\ttemp\tcode=temp_fail"},
	} {
		dovecot.say(plainLogin(i+1, c.user, "good"))
		dovecot.expect(fmt.Sprintf("%s\t%d\tuser=%s%s", c.verdict, i+1, c.user, c.more))
	}
	line := func(user string) string { return "auth:" + user + ":dom.example:good\n" }
	if got := r.exchange(r.listen(listenerBlock("generic")), line("mailer")+line("chatter")+line("none")); got != "0\n1\n0\n" {
		t.Errorf("answered %q", got)
	}
	// An XMPP server lets accounts in by what it has issued itself, if they are enabled.
	m := r.moduleConn(r.listen(listenerBlock("ejabberd")))
	m.ask("account:chatter:dom.example", "[0 1] never")
	m.ask("account:mailer:dom.example", "[0 3] never")
	m.ask("account:unsaid:dom.example", "[0 2] never")
	m.ask("isuser:mailer:dom.example", "[0 1]")
	m.ask("isuser:unsaid:dom.example", "[0 1]")
}

// TestGroupsTogether: two logins with one password at the same time are one question, and each has the answer for its
// own service.
func TestGroupsTogether(t *testing.T) {
	d, g, f := newDirectory(), newBarrier(), new(faults)
	r := newRig(t, func(s *setup) {
		byGroups(s, d)
		s.inject = f.inject
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			g.ask(ctx, q)
			return d.ask(ctx, q)
		}
	})
	ask := func(service string) <-chan auth.Answer {
		return r.startRequest(auth.Request{Op: auth.OpAuth, User: "mailer", Domain: "dom.example", Secret: auth.NewSecret("good"), Service: service}, time.Minute)
	}
	chat := ask("xmpp")
	g.reached(t, 1)
	mail, more := ask("imap"), ask("xmpp")
	r.routed(f, 3)
	g.open()
	r.allowed("xmpp", <-chat, auth.Deny)
	r.allowed("imap", <-mail, auth.Allow)
	r.allowed("xmpp again", <-more, auth.Deny)
	if n := d.questions(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// TestGroupsInOutage: without an answer of the backend the groups are as remembered, and what is not remembered is a
// temporary failure.
func TestGroupsInOutage(t *testing.T) {
	d, disk := newDirectory(), openStore(t)
	r := appRig(t, func(s *setup) { byGroups(s, d); withTokens(s); onDisk(s, disk); s.store = disk })
	phones := map[string]string{}
	for _, user := range []string{"mailer", "chatter", "unsaid", "new"} {
		phones[user] = r.add(user, apppassword.New{Name: "phone"})
		if user != "new" {
			r.login(user, "imap", "good")
		}
	}
	r.hashed("mailer", 1)
	r.hashed("chatter", 1)
	d.leave(true)
	for range 3 {
		r.clock.advance(30 * time.Hour)
		for user, want := range map[string]auth.Verdict{"mailer": auth.Allow, "chatter": auth.Deny, "unsaid": auth.Unavailable} {
			for kind, secret := range map[string]string{"password": "good", "app password": phones[user], "token": r.jsxcToken(user, time.Hour)} {
				r.allowed(user+" by "+kind, r.login(user, "imap", secret), want)
			}
		}
	}
	for kind, secret := range map[string]string{"password": "good", "app password": phones["new"], "token": r.jsxcToken("new", time.Hour)} {
		if a := r.login("new", "imap", secret); a.Verdict != auth.Unavailable {
			t.Errorf("an account of which nothing is known, by %s: %v, %q", kind, a.Verdict, a.Reason)
		}
	}
	again := r.totpToken("new")
	if a := r.login("new", "imap", again); a.Verdict != auth.Unavailable {
		t.Errorf("a one-time token: %v", a.Verdict)
	}
	d.leave(false)
	d.set("new", "mail")
	r.allowed("the one-time token, which was not used", r.login("new", "imap", again), auth.Allow)
	r.want(r.login("new", "imap", again), auth.Deny, auth.SourceToken)
}

// TestGroupsChange: an account that leaves a group is refused within verify_ttl, and one that gets into it is let in
// within refused_ttl, without another question meanwhile.
func TestGroupsChange(t *testing.T) {
	d := newDirectory()
	r := appRig(t, func(s *setup) { byGroups(s, d) })
	phone := r.add("mailer", apppassword.New{Name: "phone"})
	in, out := auth.Allow, auth.Deny
	both := func(what string, password, app auth.Verdict) {
		t.Helper()
		r.allowed(what+", password", r.login("mailer", "imap", "good"), password)
		r.allowed(what+", app password", r.login("mailer", "imap", phone), app)
	}
	both("before", in, in)
	d.set("mailer", "chat")
	for range 23 { // used all the time
		r.clock.advance(time.Hour - time.Minute)
		r.allowed("not known yet", r.login("mailer", "imap", "good"), in)
	}
	both("the app password's question is newer", in, out)
	both("and counts for the password", out, out)
	r.clock.advance(2 * time.Hour)
	both("a day later", out, out)
	d.set("mailer", "mail")
	d.questions()
	r.clock.advance(4 * time.Minute)
	both("not known yet", out, out)
	if n := d.questions(); n != 0 {
		t.Errorf("%d questions", n)
	}
	r.clock.advance(2 * time.Minute)
	both("known", in, in)
}

// TestGroupsReload: conditions of a reload hold for what was remembered before: what is known of the groups decides, and
// what is not known is asked.
func TestGroupsReload(t *testing.T) {
	d := newDirectory()
	r := newRig(t, func(s *setup) { byGroups(s, d) })
	r.allowed("before", r.login("mailer", "imap", "good"), auth.Allow)
	d.questions()
	allow1 := func(names ...string) {
		r.reload(func(c *config.Config) { c.Domains[0].Allow = []groups.Block{{Groups: names}} })
	}
	allow1("chat")
	d.leave(true)
	r.allowed("another group, which was known", r.login("mailer", "imap", "good"), auth.Deny)
	allow1("chat", "mail")
	r.allowed("one of both", r.login("mailer", "imap", "good"), auth.Allow)
	if n := d.questions(); n != 0 {
		t.Errorf("%d questions", n)
	}
	allow1("x")
	r.allowed("a group of which nothing is known, in an outage", r.login("mailer", "imap", "good"), auth.Unavailable)
	d.leave(false)
	r.allowed("a group of which nothing is known", r.login("mailer", "imap", "good"), auth.Deny)
	d.set("mailer", "x")
	r.clock.advance(5 * time.Minute)
	r.allowed("in it", r.login("mailer", "imap", "good"), auth.Allow)
	r.reload(func(c *config.Config) { c.Domains[0].Allow = nil })
	r.want(r.login("mailer", "imap", "good"), auth.Allow, auth.SourceHot)
}

// TestGroupsOfTokens: a bearer token says in which groups its account is. One that does not say it is a temporary
// failure, and no token is verified again for another service.
func TestGroupsOfTokens(t *testing.T) {
	r := newOIDCRig(t, func(s *setup, o *backend.OIDCOptions) {
		o.GroupsClaim = "groups"
		s.cfg.Domains[0].Allow = []groups.Block{{Groups: []string{"mail"}, Services: []string{"imap"}}}
	})
	for claim, want := range map[string]auth.Verdict{"mail": auth.Allow, "chat": auth.Deny, "": auth.Unavailable} {
		claims := map[string]any{"groups": []string{"x", claim}}
		if claim == "" {
			claims = nil
		}
		token := r.token(claims)
		r.fake.asked.Store(0)
		for range 2 {
			r.allowed("a token with the group "+claim, r.login("alice", "imap", token), want)
		}
		r.allowed("for chat", r.login("alice", "xmpp", token), auth.Allow)
		if n := r.fake.asked.Load(); want != auth.Unavailable && n != 1 {
			t.Errorf("a token with the group %s: %d questions", claim, n)
		}
	}
}

// TestGroupsRestart: groups are remembered on disk and by the successor of the process.
func TestGroupsRestart(t *testing.T) {
	d, disk := newDirectory(), openStore(t)
	r := newRig(t, func(s *setup) { byGroups(s, d); onDisk(s, disk) })
	for _, user := range []string{"mailer", "chatter"} {
		r.login(user, "imap", "good")
		r.hashed(user, 1)
	}
	both := func(r *rig) {
		t.Helper()
		r.allowed("in the group", r.login("mailer", "imap", "good"), auth.Allow)
		r.allowed("in another", r.login("chatter", "imap", "good"), auth.Deny)
		if n := d.questions(); n != 0 {
			t.Errorf("%d questions", n)
		}
	}
	d.questions()
	next := succeed(r, d.ask, func(s *setup) { byGroups(s, d); onDisk(s, disk) })
	both(next)
	next.stop()
	both(newRig(t, func(s *setup) { byGroups(s, d); onDisk(s, disk) }))
}
