package cache

import (
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// TestRequireKnown: while a user is limited, only secrets that the cache knows reach the backend,
// and nothing is remembered of the refusal.
func TestRequireKnown(t *testing.T) {
	fresh := func(key Key) User {
		return User{Verifiers: []Verifier{{Hash: hashA, Key: key, First: base, Verified: base, Used: base}}}
	}
	limited := auth.Answer{Verdict: auth.Deny, Source: auth.SourceLimitUser}
	doubt := auth.Answer{Source: auth.SourceLimitUser}
	allow := func(s auth.Source) auth.Answer { return auth.Answer{Verdict: auth.Allow, Source: s} }
	cases := []struct {
		name  string
		user  User
		key   Key
		at    time.Duration
		ran   bool
		said  Outcome
		want  auth.Answer
		asked int
	}{
		{"no verifier", User{}, keyA, 0, true, Accepted, limited, 0},
		{"hot", fresh(keyA), keyA, time.Minute, true, Refused, allow(auth.SourceHot), 0},
		{"fresh on disk", fresh(Key{}), keyA, time.Minute, true, Refused, allow(auth.SourceCache), 0},
		{"fresh on disk, another secret", fresh(Key{}), keyB, time.Minute, true, Accepted, limited, 0},
		{"to be verified, in memory", fresh(keyA), keyA, 2 * time.Hour, true, Accepted, allow(auth.SourceBackend), 1},
		{"to be verified, on disk", fresh(Key{}), keyA, 2 * time.Hour, true, Accepted, allow(auth.SourceBackend), 1},
		{"to be verified, on disk, another secret", fresh(Key{}), keyB, 2 * time.Hour, true, Accepted, limited, 0},
		{"long past every lifetime", fresh(Key{}), keyA, 1000 * time.Hour, true, Accepted, allow(auth.SourceBackend), 1},
		{"no time to compare", fresh(Key{}), keyA, 2 * time.Hour, false, Accepted, doubt, 0},
		{"grace", fresh(Key{}), keyA, 2 * time.Hour, true, CannotAnswer, allow(auth.SourceGrace), 1},
		{"changed at the backend", fresh(Key{}), keyA, 2 * time.Hour, true, Refused, auth.Answer{Verdict: auth.Deny, Source: auth.SourceBackend}, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := NewLogin(c.key, "")
			f.RequireKnown(limited)
			got, asked := drive(t, f, &c.user, c.key, after(c.at), c.ran, func(bool) Outcome { return c.said })
			if got.Verdict != c.want.Verdict || got.Source != c.want.Source || asked != c.asked {
				t.Errorf("answered %v (%v) after %d questions, want %v (%v) after %d", got.Verdict, got.Source, asked, c.want.Verdict, c.want.Source, c.asked)
			}
			if c.asked == 0 && (len(c.user.Refusals) > 0 || c.name != "no verifier" && len(c.user.Verifiers) != 1) {
				t.Errorf("remembered %+v", c.user)
			}
		})
	}
}

// TestWithheld: a backend with a spent budget of refusals is asked about known secrets only.
func TestWithheld(t *testing.T) {
	withheld := func(known bool) Outcome {
		if known {
			return Accepted
		}
		return Withheld
	}
	old := func(key Key) User {
		return User{Verifiers: []Verifier{{Hash: hashA, Key: key, First: base, Verified: base, Used: base}}}
	}
	cases := []struct {
		name  string
		user  User
		key   Key
		ran   bool
		want  auth.Verdict
		asked int
	}{
		{"unknown", User{}, keyA, true, auth.Unavailable, 1},
		{"in memory", old(keyA), keyA, true, auth.Allow, 1},
		{"on disk", old(Key{}), keyA, true, auth.Allow, 2},
		{"on disk, another secret", old(Key{}), keyB, true, auth.Unavailable, 1},
		{"no time to compare", old(Key{}), keyA, false, auth.Unavailable, 1},
	}
	for _, c := range cases {
		got, asked := drive(t, NewLogin(c.key, ""), &c.user, c.key, after(2*time.Hour), c.ran, withheld)
		if got.Verdict != c.want || asked != c.asked {
			t.Errorf("%s: %v (%v) after %d questions, want %v after %d", c.name, got.Verdict, got.Source, asked, c.want, c.asked)
		}
		if got.Verdict == auth.Unavailable && got.Source != auth.SourceLimitBudget {
			t.Errorf("%s: the source is %v", c.name, got.Source)
		}
		if len(c.user.Refusals) > 0 {
			t.Errorf("%s: remembered %+v", c.name, c.user.Refusals)
		}
	}
	// A login that is withheld twice ends: there is no third question.
	user := old(Key{})
	if got, asked := drive(t, NewLogin(keyA, ""), &user, keyA, after(2*time.Hour), true, func(bool) Outcome { return Withheld }); got.Verdict != auth.Unavailable || asked != 2 {
		t.Errorf("withheld twice: %v after %d questions", got.Verdict, asked)
	}
}

// drive runs a login with the secret of hashA if key is keyA.
func drive(t *testing.T, f *Login, u *User, key Key, now unixtime.Time, ran bool, backend func(known bool) Outcome) (a auth.Answer, asked int) {
	t.Helper()
	w := work{rules: defaults(), ran: ran, backend: backend, source: auth.SourceLimitBudget, made: "made"}
	if key == keyA {
		w.matches = hashA
	}
	return w.run(t, f, u, now)
}
