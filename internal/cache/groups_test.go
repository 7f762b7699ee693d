package cache

import (
	"testing"
	"time"

	"postern/internal/allow"
	"postern/internal/auth"
)

var (
	member   = auth.GroupsOf([]string{"mail"}, []string{"mail"})
	stranger = auth.GroupsOf([]string{"mail"}, nil)
)

// TestGroups: a remembered secret answers only where what is remembered of the groups decides. That they forbid the
// login counts for as long as a refusal, and without an answer of the backend as they are remembered.
func TestGroups(t *testing.T) {
	const notAsked = Outcome(200)
	for _, c := range []struct {
		name    string
		groups  auth.Groups
		service string
		stored  bool // on disk only
		at      time.Duration
		backend Outcome
		source  auth.Source
		want    auth.Groups
	}{
		{"in the group", member, "imap", false, 50 * time.Minute, notAsked, auth.SourceHot, member},
		{"in the group, from disk", member, "imap", true, 50 * time.Minute, notAsked, auth.SourceCache, member},
		{"not in it", stranger, "imap", false, 5*time.Minute + justUnder, notAsked, auth.SourceHot, stranger},
		{"not in it, a while ago", stranger, "imap", false, 5 * time.Minute, Accepted, auth.SourceBackend, member},
		{"not in it, from disk", stranger, "imap", true, 5 * time.Minute, Accepted, auth.SourceBackend, member},
		{"not in it, for a service without a condition", stranger, "xmpp", false, 50 * time.Minute, notAsked, auth.SourceHot, stranger},
		{"not known", "", "imap", false, time.Minute, Accepted, auth.SourceBackend, member},
		{"not known, for a service without a condition", "", "xmpp", false, time.Minute, notAsked, auth.SourceHot, ""},
		{"in the group, in an outage", member, "imap", false, 2 * time.Hour, CannotAnswer, auth.SourceGrace, member},
		{"not in it, in an outage", stranger, "imap", false, 2 * time.Hour, CannotAnswer, auth.SourceGrace, stranger},
		{"not known, in an outage", "", "imap", false, 2 * time.Hour, CannotAnswer, auth.SourceGrace, ""},
	} {
		rules := defaults()
		rules.Allow = allow.New([]allow.Block{{Groups: []string{"mail"}, Services: []string{"imap"}}})
		u := User{Verifiers: []Verifier{{Hash: hashA, Key: keyA, First: base, Verified: base, Used: base, Groups: c.groups}}}
		if c.stored {
			u.Verifiers[0].Key = Key{}
		}
		f := NewLogin(keyA, "")
		f.For(c.service)
		f.InGroups(member)
		w := work{rules: rules, matches: hashA, ran: true, backend: func(bool) Outcome { return c.backend }, source: auth.SourceBackend, made: hashB}
		a, asked := w.run(t, f, &u, after(c.at))
		if a.Verdict != auth.Allow || a.Source != c.source || a.Groups != c.want || (asked > 0) != (c.backend != notAsked) {
			t.Errorf("%s: %v (%v) with %q, asked %d times", c.name, a.Verdict, a.Source, a.Groups, asked)
		}
		if c.backend == Accepted && (u.Verifiers[0].Groups != member || u.Exists.Groups != member) {
			t.Errorf("%s: remembered as %q and %q", c.name, u.Verifiers[0].Groups, u.Exists.Groups)
		}
	}
}

// TestStanding: what is known of an account answers for a login that is proven otherwise only if its groups decide.
func TestStanding(t *testing.T) {
	rules := defaults()
	rules.Allow = allow.New([]allow.Block{{Groups: []string{"mail"}, Services: []string{"imap"}}})
	for _, c := range []struct {
		name    string
		groups  auth.Groups
		service string
		change  func(*Existence)
		at      time.Duration
		ok      bool
	}{
		{"in the group", member, "imap", nil, 50 * time.Minute, true},
		{"in the group, too long ago", member, "imap", nil, time.Hour, false},
		{"not in it", stranger, "imap", nil, 4 * time.Minute, true},
		{"not in it, a while ago", stranger, "imap", nil, 5 * time.Minute, false},
		{"not known", "", "imap", nil, time.Minute, false},
		{"not known, and without a condition", "", "xmpp", nil, time.Minute, true},
		{"disabled", "", "imap", func(e *Existence) { e.Disabled = true }, 30 * time.Second, true},
		{"absent", "", "imap", func(e *Existence) { e.Yes = false }, 30 * time.Second, true},
	} {
		u := User{Exists: Existence{Known: true, Yes: true, At: base, Groups: c.groups}}
		if c.change != nil {
			c.change(&u.Exists)
		}
		if a, ok := u.Standing("", c.service, rules, after(c.at)); ok != c.ok || ok && a.Groups != c.groups {
			t.Errorf("%s: %+v, %t", c.name, a, ok)
		}
	}
	u := User{Exists: Existence{Known: true, Yes: true, At: base, Groups: member}}
	if a, ok := u.IsUserGrace("", rules, after(100*time.Hour)); !ok || a.Groups != member {
		t.Errorf("in an outage: %+v, %t", a, ok)
	}
	for at, want := range map[time.Duration]auth.Groups{23 * time.Hour: member, 25 * time.Hour: ""} {
		if a, ok := u.IsUserUnasked("", rules, after(at)); !ok || a.Groups != want {
			t.Errorf("where none can be asked, after %v: %+v, %t", at, a, ok)
		}
	}
}
