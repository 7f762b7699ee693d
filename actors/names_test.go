package actors

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
)

// people is a backend with accounts, by their names as it spells them.
type people struct {
	fold      bool
	sure      bool // it says whether it has a user that it refuses
	registers bool
	mu        sync.Mutex
	all       map[string]string // passwords
	also      map[string]string // accounts of further login names
	down      bool
	asks      []string // spellings of the logins that reached it
}

func (p *people) set(account, password string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[account] = password
}

// lead has a login name lead to another account, or to its own.
func (p *people) lead(name, account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.also = map[string]string{name: account}
}

// fail has the backend answer nothing.
func (p *people) fail(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *people) Ask(_ context.Context, q backend.Query) backend.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q.Op == auth.OpAuth {
		p.asks = append(p.asks, q.User)
	}
	account := q.User
	if p.fold {
		account = auth.FoldUser(account)
	}
	if name := p.also[account]; name != "" {
		account = name
	}
	if p.down {
		return backend.Result{Class: backend.Outage}
	}
	password, known := p.all[account]
	switch {
	case q.Op == auth.OpTryRegister && !p.registers:
		return backend.Result{Class: backend.Unsupported}
	case q.Op == auth.OpSetPass && known, q.Op == auth.OpTryRegister && !known:
		p.all[account] = q.Secret.Reveal()
	case !known, q.Op == auth.OpTryRegister, q.Op == auth.OpAuth && password != q.Secret.Reveal():
		return backend.Result{Class: backend.Refused, Known: p.sure && known, Absent: p.sure && !known}
	}
	return backend.Result{Class: backend.Accepted, Known: true, Account: account}
}

// newPeopleRig is a rig with a generic listener. say sends lines and wants the answers.
func newPeopleRig(t *testing.T, fold bool, change func(*setup)) (r *rig, p *people, say func(want string, lines ...string)) {
	p = &people{fold: fold, all: map[string]string{}}
	r = newRig(t, func(s *setup) {
		s.fake.ask = p.ask
		s.cfg.Backends[0].FoldCase = fold
		if change != nil {
			change(s)
		}
	})
	block := listenerBlock("generic")
	block.Changes = true
	address := r.listen(block)
	return r, p, func(want string, lines ...string) {
		t.Helper()
		for _, line := range lines { // one after the other: the next must find what the former learned
			got := r.exchange(address, line+"\n")
			if got = strings.TrimSpace(got); got != want {
				t.Errorf("%s is answered %s, want %s", line, got, want)
			}
		}
	}
}

func (p *people) ask(ctx context.Context, q backend.Query) backend.Result { return p.Ask(ctx, q) }

// TestSpellings: the spellings of an account are one account: what the backend takes back from one,
// no other has.
func TestSpellings(t *testing.T) {
	const d = "dom.example"
	for name, takeBack := range map[string]func(r *rig, p *people, say func(string, ...string)){
		"a changed password": func(_ *rig, p *people, say func(string, ...string)) {
			p.set("vera", "new")
			say("1", "auth:vera:"+d+":new")
			say("0", "auth:vera:"+d+":old")
		},
		"setpass": func(_ *rig, _ *people, say func(string, ...string)) {
			say("1", "setpass:vera:"+d+":new")
		},
		"forget": func(r *rig, p *people, _ func(string, ...string)) {
			p.set("vera", "new")
			if err := r.ForgetUser(context.Background(), auth.Identity{User: "VERA", Domain: d}); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, p, say := newPeopleRig(t, true, nil)
			p.set("vera", "old")
			say("1", "auth:Vera:"+d+":old", "auth:vera:"+d+":old", "auth:VERA:"+d+":old")
			if len(p.asks) != 1 {
				t.Errorf("asked about %q: spellings of one account are one", p.asks)
			}
			takeBack(r, p, say)
			say("0", "auth:Vera:"+d+":old", "auth:VERA:"+d+":old", "auth:vera:"+d+":old")
			say("1", "auth:VERA:"+d+":new")
		})
	}
}

// TestExactSpellings: where the backend does not fold, what it says of one spelling holds for no other.
func TestExactSpellings(t *testing.T) {
	const d = "dom.example"
	_, p, say := newPeopleRig(t, false, nil)
	p.set("Bob", "one")
	p.set("bob", "two")
	for range 2 { // asked, and from memory
		say("1", "auth:Bob:"+d+":one", "auth:bob:"+d+":two", "isuser:Bob:"+d)
		say("0", "auth:bob:"+d+":one", "auth:BOB:"+d+":two", "isuser:BOB:"+d)
	}
	for range 3 { // a new password has the others verified again
		say("1", "auth:Bob:"+d+":one", "auth:bob:"+d+":two")
	}
	asked := len(p.asks)
	say("1", "auth:Bob:"+d+":one", "auth:bob:"+d+":two")
	if len(p.asks) != asked {
		t.Errorf("asked about %q again", p.asks[asked:])
	}
}

// logins is how many logins have reached the backend.
func (p *people) logins() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asks)
}

// TestAlias: a login that leads to an account of another name is given only to fronts that return the
// account, and what is known of it is the account's.
func TestAlias(t *testing.T) {
	const d = "dom.example"
	r, p, say := newPeopleRig(t, true, nil)
	p.set("alice", "one")
	p.lead("mallory", "alice")
	mail := r.dovecot(t, r.listen(listenerBlock("dovecot")), 1)
	id := 0
	login := func(user, password, want string) {
		t.Helper()
		id++
		mail.say(plainLogin(id, user+"@"+d, password))
		if got := mail.line(); !strings.HasPrefix(got, want) {
			t.Errorf("%s is answered %q, want %s", user, got, want)
		}
	}
	say("0", "auth:mallory:"+d+":one") // it would be taken for mallory
	for range 2 {
		login("mallory", "one", "OK")
	}
	asked := p.logins()
	login("Mallory", "one", "OK")
	say("0", "auth:mallory:"+d+":one")
	say("1", "auth:alice:"+d+":one")
	if n := p.logins() - asked; n != 0 {
		t.Errorf("asked %d times about what the account's record has", n)
	}
	p.fail(true) // a user that has logged in is there, by any name
	say("1", "isuser:mallory:"+d, "isuser:MALLORY:"+d)
	say("0", "isuser:trent:"+d)
	p.fail(false)
	p.set("alice", "two")
	login("alice", "two", "OK")
	login("mallory", "one", "FAIL")
	say("0", "auth:alice:"+d+":one")
	p.lead("mallory", "")
	p.set("mallory", "own")
	login("mallory", "own", "OK")
	say("1", "auth:mallory:"+d+":own")
	say("0", "auth:mallory:"+d+":two")
}

// TestUnescapeJID: the backend is asked about the name behind the escapes of XMPP, where the domain says
// so.
func TestUnescapeJID(t *testing.T) {
	for unescape, name := range map[bool]string{true: "kevin k", false: `kevin\20k`} {
		_, p, say := newPeopleRig(t, true, func(s *setup) { s.cfg.Domains[0].UnescapeJID = unescape })
		p.set(name, "good")
		say("1", `auth:kevin\20k:dom.example:good`, `isuser:Kevin\20K:dom.example`)
		say("0", `auth:kevin\40k:dom.example:good`)
	}
}

// TestEscapedReports: changes, tokens and what an administrator names have the user as the XMPP server has it.
func TestEscapedReports(t *testing.T) {
	const d, user = "dom.example", `kevin\20k`
	r, p, say := newPeopleRig(t, true, func(s *setup) {
		withTokens(s)
		s.cfg.Domains[0].UnescapeJID = true
	})
	p.set("kevin k", "old")
	say("1", "auth:"+user+":"+d+":old")
	module := r.moduleConn(r.listen(listenerBlock("ejabberd")))
	module.ask("watch:0:"+d, "[1 1]")
	say("1", "setpass:"+user+":"+d+":new")
	module.want(user + " c new")
	say("1", "auth:"+user+":"+d+":new", "auth:"+user+":"+d+":"+r.jsxcToken(user, time.Hour), "auth:"+user+":"+d+":"+r.totpToken(user), "auth:"+user+":"+d+":"+r.totpToken("kevin k"))
	ctx, id := context.Background(), auth.Identity{User: user, Domain: d}
	if u, err := r.CachedUser(ctx, id); err != nil || len(u.Verifiers) != 1 {
		t.Errorf("remembered: %+v, %v", u, err)
	}
	if err := r.ForgetUser(ctx, id); err != nil {
		t.Error(err)
	}
	module.want(user + " c new")
	if u, err := r.CachedUser(ctx, id); err != nil || len(u.Verifiers) != 0 {
		t.Errorf("remembered after that: %+v, %v", u, err)
	}
}

// TestFreshQuestion: a question that is to be fresh is the backend's to answer, and changes nothing that
// is remembered.
func TestFreshQuestion(t *testing.T) {
	r, p, say := newPeopleRig(t, true, nil)
	p.set("joe", "old")
	say("1", "auth:joe:dom.example:old", "isuser:joe:dom.example")
	p.set("joe", "new")
	fresh := func(op auth.Operation) auth.Answer {
		return r.ask(auth.Request{Op: op, User: "joe", Domain: "dom.example", Secret: auth.NewSecret("old"), Fresh: true})
	}
	r.want(fresh(auth.OpAuth), deny, fromBackend)
	r.want(fresh(auth.OpIsUser), allow, fromBackend)
	p.fail(true)
	r.want(fresh(auth.OpAuth), unavailable, fromBackend)
	say("1", "auth:joe:dom.example:old", "isuser:joe:dom.example")
}
