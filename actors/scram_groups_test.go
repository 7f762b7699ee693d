package actors

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	groups "postern/internal/allow"
	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/scram/scramtest"
)

// TestScramGroups: a right proof lets in only users that their groups let in, and no others get the server's
// signature. Groups that are set leave the keys of SCRAM as they are.
func TestScramGroups(t *testing.T) {
	r := newScramRig(t, []string{"joe", "ann"}, func(s *setup) {
		s.cfg.Domains[0].Allow = []groups.Block{{Groups: []string{"chat"}, Services: []string{"xmpp"}}}
	})
	file, err := backend.OpenUsersFile(r.users, true)
	if err != nil {
		t.Fatal(err)
	}
	set := func(user string, names ...string) {
		t.Helper()
		if err := file.SetGroups(context.Background(), auth.Identity{User: user, Domain: "dom.example"}, names); err != nil {
			t.Fatal(err)
		}
	}
	set("joe", "mail", "chat")
	set("ann", "mail")
	for range 2 {
		r.allowed("joe, who is in the group", r.prove(pencil("joe")), auth.Allow)
		r.allowed("ann, who is not", r.prove(pencil("ann")), auth.Deny)
		r.want(r.prove(wrong("ann")), auth.Deny, auth.SourceBackend)
	}
	c := pencil("ann") // where the condition is not asked for
	c.Mechanism = "SCRAM-SHA-1"
	mail := final(&c, r.ask(sasl(&c, "")))
	mail.Service = "imap"
	r.want(r.ask(mail), auth.Allow, auth.SourceBackend)
	if n, err := r.keyless(r.table.Current("dom.example"), "dom.example", "xmpp"); n != 0 || err != nil {
		t.Errorf("%d accounts have lost their keys, %v", n, err)
	}
	set("ann", "chat")
	set("joe")
	r.allowed("ann, who is now", r.prove(pencil("ann")), auth.Allow)
	r.allowed("joe, who is not any more", r.prove(pencil("joe")), auth.Deny)
}

// TestScramGroupsInOutage: a proof of an app password lets in by what the backend says of the account's groups, in an
// outage as it is remembered. What is not known is a temporary failure.
func TestScramGroupsInOutage(t *testing.T) {
	d, seed := newDirectory(), filepath.Join(t.TempDir(), "scram.seed")
	r := appRig(t, func(s *setup) {
		byGroups(s, d)
		s.cfg.Domains[0].ScramSeed = seed
		s.cfg.Domains[0].AppPasswords.Require = []string{"xmpp"}
	})
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	phones := map[string]string{}
	for _, user := range []string{"chatter", "mailer", "unsaid", "both"} {
		phones[user] = r.add(user, apppassword.New{Name: "phone"})
		if err := r.KeyAppPassword(ctx, auth.Identity{User: user, Domain: "dom.example"}, auth.NewSecret(phones[user])); err != nil {
			t.Fatal(err)
		}
	}
	all := func(what string, want map[string]auth.Verdict) {
		t.Helper()
		for user, verdict := range want {
			a := r.prove(scramtest.Client{User: user, Password: phones[user]})
			if a.Verdict != verdict || verdict == auth.Deny && a.Source != auth.SourceGroups {
				t.Errorf("%s: %s: %v (%v), %q; want %v", what, user, a.Verdict, a.Source, a.Reason, verdict)
			}
		}
	}
	known := map[string]auth.Verdict{"chatter": auth.Allow, "mailer": auth.Deny, "unsaid": auth.Unavailable}
	all("at first", known)
	d.leave(true)
	r.clock.advance(30 * time.Hour)
	all("in an outage", known)
	all("in an outage", map[string]auth.Verdict{"both": auth.Unavailable})
	d.leave(false)
	d.set("chatter", "mail")
	r.clock.advance(2 * time.Hour)
	all("after it", map[string]auth.Verdict{"chatter": auth.Deny, "both": auth.Allow})
}
