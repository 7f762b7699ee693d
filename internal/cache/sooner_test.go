package cache

import (
	"testing"
	"time"

	"postern/internal/auth"
)

func TestAskSooner(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		wait, compare, ask time.Duration
		healthy, want      bool
	}{
		"a worker is free":              {0, 250 * ms, 20 * ms, true, false},
		"a worker is nearly done":       {9 * ms, 250 * ms, 20 * ms, true, false},
		"the backend is quicker":        {100 * ms, 250 * ms, 349 * ms, true, true},
		"the backend is as quick":       {100 * ms, 250 * ms, 350 * ms, true, false},
		"the backend's queue is longer": {100 * ms, 250 * ms, time.Second, true, false},
		"the backend is away":           {time.Minute, 250 * ms, 0, false, false},
	} {
		if got := AskSooner(c.wait, c.compare, c.ask, c.healthy); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestAskInstead: a login that asks in place of a comparison is let in at once where the backend says yes, and the
// others of the user's verifiers must be verified again unless its own is found among them. Where the backend
// says neither yes nor no, the comparison decides after all.
func TestAskInstead(t *testing.T) {
	for name, c := range map[string]struct {
		outcome  Outcome
		matches  string
		ran      bool
		want     auth.Answer
		compared int
		asked    int
	}{
		"yes":                        {Accepted, hashA, true, auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend}, 1, 1},
		"yes, of a new password":     {Accepted, "", true, auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend}, 1, 1},
		"yes, no time to compare":    {Accepted, hashA, false, auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend}, 1, 1},
		"no":                         {Refused, hashA, true, auth.Answer{Verdict: auth.Deny, Source: auth.SourceBackend}, 1, 1},
		"no, no time to compare":     {Refused, hashA, false, auth.Answer{Verdict: auth.Deny, Source: auth.SourceBackend}, 1, 1},
		"an outage":                  {CannotAnswer, hashA, true, auth.Answer{Verdict: auth.Allow, Source: auth.SourceCache}, 1, 1},
		"an outage, another secret":  {CannotAnswer, hashB, true, auth.Answer{Verdict: auth.Unavailable, Source: auth.SourceBackend}, 1, 1},
		"an outage, no time":         {CannotAnswer, hashA, false, auth.Answer{Verdict: auth.Unavailable, Source: auth.SourceBackend}, 2, 1},
		"a long queue":               {Busy, hashA, true, auth.Answer{Verdict: auth.Allow, Source: auth.SourceCache}, 1, 1},
		"a strained budget":          {Withheld, hashA, true, auth.Answer{Verdict: auth.Allow, Source: auth.SourceCache}, 1, 1},
		"a misconfigured backend":    {Misconfigured, hashA, true, auth.Answer{Verdict: auth.Allow, Source: auth.SourceCache}, 1, 1},
		"misconfigured, no password": {Misconfigured, "", true, auth.Answer{Verdict: auth.Unavailable, Source: auth.SourceBackend}, 1, 1},
	} {
		r := defaults()
		u := &User{Verifiers: []Verifier{{Hash: hashA, First: base, Verified: base, Used: base}}}
		f := NewLogin(keyA, "")
		compared := 0
		w := work{rules: r, matches: c.matches, ran: c.ran, backend: func(bool) Outcome { return c.outcome }, source: auth.SourceBackend,
			compared: &compared, instead: true}
		a, asked := w.run(t, f, u, after(time.Minute))
		if a.Verdict != c.want.Verdict || a.Source != c.want.Source || asked != c.asked || compared != c.compared {
			t.Errorf("%s: %v (%v), asked %d, compared %d", name, a.Verdict, a.Source, asked, compared)
		}
		_, hot := u.Hot(keyA, "", "", r, after(2*time.Minute))
		if known := a.Verdict != auth.Unavailable; hot != known {
			t.Errorf("%s: the next login is answered from memory: %v", name, hot)
		}
		for _, v := range u.Verifiers {
			if v.Key == (Key{}) && c.outcome == Accepted && !v.Stale {
				t.Errorf("%s: a former password would still be let in", name)
			}
			if v.Key == (Key{}) && c.outcome == Refused {
				t.Errorf("%s: what may be the refused password is kept", name)
			}
		}
	}
}

// TestMayAsk: a question takes the place of a comparison once, and not where a limit or the order of the backends
// is against it.
func TestMayAsk(t *testing.T) {
	first, second := authority(1), authority(2)
	for name, c := range map[string]struct {
		by      auth.AuthorityID
		all     []auth.Authority
		prepare func(*Login)
		want    bool
	}{
		"one backend":             {first, []auth.Authority{{ID: first}}, nil, true},
		"the first of two":        {first, []auth.Authority{{ID: first}, {ID: second}}, nil, true},
		"the second of two":       {second, []auth.Authority{{ID: first}, {ID: second}}, nil, false},
		"the address is limited":  {first, []auth.Authority{{ID: first}}, func(l *Login) { l.RequireKnown(auth.Answer{}) }, false},
		"the account is limited":  {first, []auth.Authority{{ID: first}}, (*Login).AskFirst, false},
		"it was asked about once": {first, []auth.Authority{{ID: first}}, func(l *Login) { l.moved = true }, false},
	} {
		r := defaults()
		r.Authorities = c.all
		l := NewLogin(keyA, "")
		if c.prepare != nil {
			c.prepare(l)
		}
		l.Start(&User{Verifiers: []Verifier{{By: c.by, Hash: hashA, First: base, Verified: base, Used: base}}}, r, after(time.Minute))
		if l.MayAsk() != c.want {
			t.Errorf("%s: %t", name, l.MayAsk())
		}
	}
}

// TestFoundAtTheNextAcceptance: a verifier that was not looked for, since there was no time, is found when its secret is
// accepted again, and no second hash of it is made.
func TestFoundAtTheNextAcceptance(t *testing.T) {
	r := defaults()
	u := &User{Verifiers: []Verifier{{Hash: hashA, First: base, Verified: base, Used: base}}}
	compared := 0
	w := work{rules: r, matches: hashA, backend: func(bool) Outcome { return Accepted }, source: auth.SourceBackend, compared: &compared, instead: true}
	w.run(t, NewLogin(keyA, ""), u, after(time.Minute))
	if len(u.Verifiers) != 2 || !u.Verifiers[0].Stale || !reloaded(t, u).Verifiers[0].Stale {
		t.Fatalf("remembered %+v", u.Verifiers)
	}
	w.ran = true
	w.run(t, NewLogin(keyA, ""), u, after(25*time.Hour))
	if len(u.Verifiers) != 1 || u.Verifiers[0].Hash != hashA || u.Verifiers[0].Stale || u.Verifiers[0].First != base || compared != 2 {
		t.Errorf("remembered %+v after %d comparisons", u.Verifiers, compared)
	}
}
