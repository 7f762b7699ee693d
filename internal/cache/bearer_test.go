package cache

import (
	"slices"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// bearerLogin logs in with a token that ends at a time, if the backend is asked.
func bearerLogin(t *testing.T, u *User, key Key, ends unixtime.Time, outcome Outcome, r *Rules, now unixtime.Time) (a auth.Answer, asked bool, last Step) {
	t.Helper()
	l := NewLogin(key, "joe")
	l.Bearer()
	step := l.Start(u, r, now)
	if step.Do == Ask {
		asked = true
		l.Answers(Name{Account: "joe"}, auth.AuthorityID{})
		l.Expires(ends)
		step = l.BackendAnswered(u, outcome, auth.SourceBackend, r, now)
	}
	for a = step.Answer; step.Do == Compare; {
		step = l.Compared(u, "", step.Hashes, true, r, now)
		if step.Answered {
			a = step.Answer
		}
	}
	return a, asked, step
}

// A bearer token answers from memory until it ends, also in an outage, and not for longer.
func TestBearer(t *testing.T) {
	r, u, ends := defaults(), new(User), after(10*time.Minute)
	step := func(name string, at time.Duration, outcome Outcome, want auth.Verdict, source auth.Source, wantAsked bool) {
		t.Helper()
		a, asked, last := bearerLogin(t, u, keyA, ends, outcome, r, after(at))
		if a.Verdict != want || a.Source != source || asked != wantAsked || last.Do != Nothing {
			t.Errorf("%s: %v (%v), asked %v, then %v", name, a.Verdict, a.Source, asked, last.Do)
		}
	}
	step("new", 0, Accepted, auth.Allow, auth.SourceBackend, true)
	step("again", time.Minute, Refused, auth.Allow, auth.SourceHot, false)
	step("just before its end", 10*time.Minute+justUnder, Refused, auth.Allow, auth.SourceHot, false)
	step("ended, in an outage", 10*time.Minute, CannotAnswer, auth.Unavailable, auth.SourceBackend, true)
	step("ended", 10*time.Minute, Refused, auth.Deny, auth.SourceBackend, true)

	*u, ends = User{}, after(30*24*time.Hour)
	step("a long one", 0, Accepted, auth.Allow, auth.SourceBackend, true)
	step("not used for query_ttl", 2*time.Hour, Accepted, auth.Allow, auth.SourceBackend, true)
	step("within verify_ttl, in an outage", 25*time.Hour, CannotAnswer, auth.Allow, auth.SourceGrace, true)
	step("a moment later", 25*time.Hour+time.Minute, Refused, auth.Allow, auth.SourceGrace, false)
	step("after verify_ttl, in an outage", 26*time.Hour, CannotAnswer, auth.Unavailable, auth.SourceBackend, true)
	step("after verify_ttl", 72*time.Hour, Accepted, auth.Allow, auth.SourceBackend, true)
	step("not known, though the provider answers", 74*time.Hour, Misconfigured, auth.Unavailable, auth.SourceBackend, true)
	if u.Encode() == nil || len(u.stored()) != 0 {
		t.Errorf("on disk: %+v", u.stored())
	}
}

// A token is compared with no hash, whatever the answer: otherwise made-up ones would cost work without limit. Nothing is
// lost by it, either, not even what is under a lost key.
func TestBearerComparesNothing(t *testing.T) {
	for outcome, want := range map[Outcome]auth.Verdict{
		Refused: auth.Deny, CannotAnswer: auth.Unavailable, Misconfigured: auth.Unavailable, Withheld: auth.Unavailable, Accepted: auth.Allow,
	} {
		r := defaults()
		u := &User{Verifiers: []Verifier{
			{Hash: hashA, First: base, Verified: base, Used: base}, {Hash: sealers[1].seal("", auth.AuthorityID{}, "joe", auth.NewSecret("x")), First: base, Verified: base, Used: base},
		}}
		was := u.Clone().Verifiers
		l := NewLogin(keyA, "joe")
		l.Bearer()
		l.RequireKnown(auth.Answer{Verdict: auth.Unavailable})
		if step := l.Start(u, r, after(time.Minute)); step.Do != Nothing {
			t.Errorf("%v, if it must be known: %v", outcome, step.Do)
		}
		a, asked, last := bearerLogin(t, u, keyA, after(time.Hour), outcome, r, after(time.Minute))
		if a.Verdict != want || !asked || last.Do != Nothing && last.Do != Ask || !slices.Equal(u.Verifiers[:2], was) {
			t.Errorf("%v: %v, asked %v, then %v, %+v", outcome, a.Verdict, asked, last.Do, u.Verifiers)
		}
	}
}

// A token that was remembered as a password before its issuer was known is not answered as such, sealed or not.
func TestBearerWasPassword(t *testing.T) {
	for name, sealer := range map[string]*Sealer{"hash": nil, "seal": sealers[1]} {
		r, u := defaults(), new(User)
		r.Sealer, r.Hashed = sealer, true
		if a, _ := login(t, u, keyA, hashA, Accepted, r, base); a.Verdict != auth.Allow || len(u.Verifiers) != 1 {
			t.Fatalf("%s: %v, %+v", name, a.Verdict, u.Verifiers)
		}
		if u.Token(keyA) {
			t.Errorf("%s: a password is remembered as a token", name)
		}
		a, asked, last := bearerLogin(t, u, keyA, after(time.Hour), CannotAnswer, r, after(time.Minute))
		if a.Verdict != auth.Unavailable || !asked || last.Do != Nothing {
			t.Errorf("%s: %v (%v), asked %v", name, a.Verdict, a.Source, asked)
		}
		if a, asked, _ = bearerLogin(t, u, keyA, after(time.Hour), Accepted, r, after(time.Minute)); a.Verdict != auth.Allow || !asked || !u.Token(keyA) {
			t.Errorf("%s: as a token: %v, asked %v", name, a.Verdict, asked)
		}
	}
}

// Tokens leave the user's passwords as they are, have room of their own, and are no password for them.
func TestBearerBesidePasswords(t *testing.T) {
	for _, sealer := range []*Sealer{nil, sealers[1]} {
		r := defaults()
		r.Secrets, r.Sealer = 2, sealer
		u := &User{Verifiers: []Verifier{{Hash: hashA, First: base, Verified: base, Used: base}, {Hash: hashB, Key: keyB, First: base, Verified: base, Used: base}}}
		for i := range 5 {
			now := after(time.Duration(i) * time.Minute)
			a, _, last := bearerLogin(t, u, Key{0xe, byte(i)}, now+unixtime.Time(3*time.Minute/time.Millisecond), Accepted, r, now)
			if a.Verdict != auth.Allow || last.Do != Nothing {
				t.Fatalf("token %d: %v, then %v", i, a.Verdict, last.Do)
			}
		}
		passwords, tokens := 0, 0
		for _, v := range u.Verifiers {
			if v.Until == 0 {
				passwords++
			} else {
				tokens++
			}
			if v.Stale || v.Until == 0 && v.Hash == "" || v.Until != 0 && v.Hash != "" {
				t.Errorf("%+v", v)
			}
		}
		if passwords != 2 || tokens != 2 {
			t.Errorf("%d passwords, %d tokens", passwords, tokens)
		}
		if a, asked := login(t, u, keyB, hashB, Refused, r, after(5*time.Minute)); a.Source != auth.SourceHot || asked {
			t.Errorf("the password: %v", a.Source)
		}
		saved := u.Save()
		if got := saved.user(); len(got.Verifiers) != len(u.Verifiers) || got.Verifiers[3].Until != u.Verifiers[3].Until {
			t.Errorf("handed over: %+v", got.Verifiers)
		}
	}
}
