package cache

import (
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// reloaded is the user as read back from disk.
func reloaded(t *testing.T, u *User) *User {
	t.Helper()
	again, err := Decode(u.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// suspect runs a login with the secret A, which one backend refuses while another is unavailable.
func suspect(t *testing.T, u *User, outcome Outcome, ran bool, r *Rules, now unixtime.Time) auth.Answer {
	t.Helper()
	f := NewLogin(keyA, "")
	f.Suspect()
	w := work{rules: r, matches: hashA, ran: ran, backend: func(bool) Outcome { return outcome }, source: auth.SourceBackend}
	a, _ := w.run(t, f, u, now)
	return a
}

// TestSuspect: a secret that one backend has refused while another was unavailable gets no grace
// until it is accepted, wherever its verifier is. The user's other secrets keep theirs, unless the
// comparison that finds the suspect one could not be made.
func TestSuspect(t *testing.T) {
	for name, c := range map[string]struct {
		key     Key // of the verifier
		ran     bool
		outcome Outcome
	}{
		"in memory":                          {keyA, true, Misconfigured},
		"on disk":                            {Key{}, true, Misconfigured},
		"on disk, not compared":              {Key{}, false, Misconfigured},
		"in memory, another over its budget": {keyA, true, Withheld},
		"on disk, another over its budget":   {Key{}, true, Withheld},
		"on disk, over budget, not compared": {Key{}, false, Withheld},
		"in memory, then a full outage":      {keyA, true, CannotAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			u, rules := &User{Verifiers: []Verifier{
				{Hash: hashA, Key: c.key, First: base, Verified: base, Used: base},
				{Hash: hashB, First: base, Verified: base, Used: base},
			}}, defaults()
			if a := suspect(t, u, c.outcome, c.ran, rules, after(2*time.Hour)); a.Verdict != auth.Unavailable {
				t.Fatalf("answered %v (%v)", a.Verdict, a.Source)
			}
			if len(u.Verifiers) != 2 {
				t.Fatalf("verifiers: %+v", u.Verifiers)
			}
			other := map[bool]auth.Verdict{true: auth.Allow, false: auth.Unavailable}[c.ran]
			for _, u := range []*User{u, reloaded(t, u)} {
				for _, unasked := range []Outcome{CannotAnswer, Busy} {
					if a, _ := login(t, u, keyA, hashA, unasked, rules, after(3*time.Hour)); a.Verdict != auth.Unavailable {
						t.Errorf("in an outage it is answered %v (%v)", a.Verdict, a.Source)
					}
				}
				rules.Query = 24 * time.Hour // as after a reload: it was fresh no more when it was asked about
				if _, asked := login(t, u, keyA, hashA, Misconfigured, rules, after(3*time.Hour)); !asked {
					t.Error("it is served unasked")
				}
				rules.Query = time.Hour
				if a, _ := login(t, u, keyB, hashB, CannotAnswer, rules, after(3*time.Hour)); a.Verdict != other {
					t.Errorf("another secret is answered %v (%v), want %v", a.Verdict, a.Source, other)
				}
				if _, ok := u.IsUserGrace("", rules, after(3*time.Hour)); !ok {
					t.Error("isuser has no grace any more")
				}
				login(t, u, keyA, hashA, Accepted, rules, after(4*time.Hour))
				if a, _ := login(t, u, keyA, hashA, CannotAnswer, rules, after(6*time.Hour)); a.Verdict != auth.Allow {
					t.Errorf("once accepted it is answered %v (%v) in an outage", a.Verdict, a.Source)
				}
			}
		})
	}
}

// TestSuspectIsLookedFor: while the hashes are compared, the secret has no grace in memory, and none
// of them has any on disk, where that is written before the answer leaves.
func TestSuspectIsLookedFor(t *testing.T) {
	u, rules, now := &User{Verifiers: []Verifier{
		{Hash: hashA, First: base, Verified: base, Used: base},
		{Hash: hashB, First: base, Verified: base, Used: base},
	}}, defaults(), after(2*time.Hour)
	suspects := func(when string, a, b bool) {
		t.Helper()
		if v := reloaded(t, u).Verifiers; len(v) != 2 || v[0].Suspect != a || v[1].Suspect != b {
			t.Errorf("%s: on disk is %+v", when, v)
		}
	}
	f := NewLogin(keyA, "")
	f.Start(u, rules, now)
	f.Suspect()
	step := f.BackendAnswered(u, Misconfigured, auth.SourceBackend, rules, now)
	if step.Do != Compare || len(step.Hashes) != 2 || !step.Answered || !step.Save || !step.Lasting {
		t.Fatalf("%+v", step)
	}
	suspects("before the comparison", true, true)
	if a, _ := login(t, u, keyA, hashA, CannotAnswer, rules, now); a.Verdict != auth.Unavailable {
		t.Errorf("answered %v (%v) before it was found", a.Verdict, a.Source)
	}
	if step = f.Compared(u, hashA, step.Hashes, true, rules, now); !step.Save {
		t.Error("what was found is not saved")
	}
	suspects("after the comparison", true, false)
	if u.keyed(keyA, "") == nil {
		t.Error("it would be looked for again")
	}
	// The same phone again: nothing is new, so nothing is compared and nothing written.
	f = NewLogin(keyA, "")
	f.Start(u, rules, now)
	f.Suspect()
	if step = f.BackendAnswered(u, Misconfigured, auth.SourceBackend, rules, now); step.Do != Nothing || step.Save || step.Lasting {
		t.Errorf("again: %+v", step)
	}
}

// TestSuspectBesideRefusal: what all backends have refused stays refused unasked, and no longer than
// it would; and the other way round, a refusal counts for more than a suspicion.
func TestSuspectBesideRefusal(t *testing.T) {
	for _, refusedFirst := range []bool{true, false} {
		u, rules := &User{Verifiers: []Verifier{{Hash: hashA, Key: keyA, First: base, Verified: base, Used: base}}}, defaults()
		one, other := NewLogin(keyA, ""), NewLogin(keyA, "")
		begun := after(2 * time.Hour)
		one.Start(u, rules, begun)
		other.Start(u, rules, begun)
		one.Suspect()
		refusedAt := begun
		if refusedFirst {
			other.BackendAnswered(u, Refused, auth.SourceBackend, rules, begun)
			one.BackendAnswered(u, Misconfigured, auth.SourceBackend, rules, begun+1000)
		} else {
			one.BackendAnswered(u, Misconfigured, auth.SourceBackend, rules, begun)
			refusedAt += 1000
			other.BackendAnswered(u, Refused, auth.SourceBackend, rules, refusedAt)
		}
		if len(u.Verifiers) != 0 {
			t.Errorf("refused first: %v: remembered %+v", refusedFirst, u.Verifiers)
		}
		end := refusedAt + unixtime.Time(rules.Refused/time.Millisecond)
		if a, asked := login(t, u, keyA, "", Accepted, rules, end-1); asked || a.Verdict != auth.Deny {
			t.Errorf("refused first: %v: answered %v (%v)", refusedFirst, a.Verdict, a.Source)
		}
		if _, asked := login(t, u, keyA, "", Accepted, rules, end); !asked {
			t.Errorf("refused first: %v: held for too long", refusedFirst)
		}
	}
}

// TestAcceptanceOlderThanSuspicion: an acceptance that was asked for before one of the backends
// refused the secret is not remembered.
func TestAcceptanceOlderThanSuspicion(t *testing.T) {
	u, rules := &User{}, defaults()
	slow := NewLogin(keyA, "")
	slow.Start(u, rules, base)
	suspect(t, u, Misconfigured, true, rules, base)
	if step := slow.BackendAnswered(u, Accepted, auth.SourceBackend, rules, base); step.Answer.Verdict != auth.Allow || len(u.Verifiers) != 0 {
		t.Errorf("answered %v, remembered %+v", step.Answer.Verdict, u.Verifiers)
	}
	if a, _ := login(t, u, keyA, "", Accepted, rules, base); a.Verdict != auth.Allow || u.keyed(keyA, "") == nil {
		t.Errorf("afterwards: answered %v, remembered %+v", a.Verdict, u.Verifiers)
	}
}

// TestSuspectWhileLimited: a limited user's suspect secret is looked for all the same, since it may
// be the right one.
func TestSuspectWhileLimited(t *testing.T) {
	u, rules := &User{Verifiers: []Verifier{{Hash: hashA, First: base, Verified: base, Used: base}}}, defaults()
	suspect(t, u, Misconfigured, false, rules, after(2*time.Hour))
	f := NewLogin(keyA, "")
	f.RequireKnown(auth.Answer{Verdict: auth.Deny, Source: auth.SourceLimitUser})
	a, asked := drive(t, f, u, keyA, after(3*time.Hour), true, func(bool) Outcome { return Accepted })
	if a.Verdict != auth.Allow || asked != 1 {
		t.Errorf("answered %v (%v) after %d questions", a.Verdict, a.Source, asked)
	}
}
