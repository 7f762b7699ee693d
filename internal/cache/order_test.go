package cache

import (
	"slices"
	"testing"
	"time"

	"postern/internal/auth"
)

// An acceptance that was asked for before a refusal came is answered, but not remembered, whatever
// the clock is set to meanwhile, and though the user was out of memory.
func TestAcceptanceOlderThanRefusal(t *testing.T) {
	for name, c := range map[string]struct {
		refusedAt time.Duration
		evicted   bool
	}{
		"later": {time.Second, false}, "within the same millisecond": {0, false},
		"the clock set back": {-time.Hour, false}, "evicted": {time.Second, true},
	} {
		u, rules := &User{}, defaults()
		login(t, u, keyB, "", Refused, rules, base)
		slow, quick := NewFlow(keyA), NewFlow(keyA)
		slow.Start(u, rules, base)
		quick.Start(u, rules, base)
		if c.evicted {
			u = &User{}
		}
		quick.Asked(u, Refused, auth.SourceBackend, rules, after(c.refusedAt))
		step := slow.Asked(u, Accepted, auth.SourceBackend, rules, after(2*time.Second))
		if step.Answer.Verdict != auth.Allow || len(u.Verifiers) != 0 {
			t.Errorf("%s: answered %v, remembered %+v", name, step.Answer.Verdict, u.Verifiers)
		}
	}
}

// An acceptance that was asked for after a refusal came pardons it, however the clock jumps.
func TestAcceptanceYoungerThanRefusal(t *testing.T) {
	for _, at := range []time.Duration{6 * time.Minute, 0, -time.Hour} {
		u, rules := &User{}, defaults()
		rules.Refused = 0
		login(t, u, keyA, "", Refused, rules, base)
		if a, _ := login(t, u, keyA, "", Accepted, rules, after(at)); a.Verdict != auth.Allow || u.keyed(keyA) == nil {
			t.Errorf("%v after the refusal: answered %v, remembered %+v", at, a.Verdict, u.Verifiers)
		}
	}
}

// A login that is at the backend while the account is changed is answered, but its password may
// be the old one and is not remembered. One that is asked later is, within the same millisecond too.
func TestAcceptanceOlderThanChange(t *testing.T) {
	for name, change := range map[string]func(*User){"forget": (*User).Forget, "doubt": (*User).Doubt} {
		u, rules := &User{}, defaults()
		old := NewFlow(keyA)
		old.Start(u, rules, base)
		change(u)
		old.Supersede()
		step := old.Asked(u, Accepted, auth.SourceBackend, rules, base)
		if step.Answer.Verdict != auth.Allow || step.Do != Nothing || len(u.Verifiers) != 0 {
			t.Errorf("%s: answered %v, remembered %+v", name, step.Answer.Verdict, u.Verifiers)
		}
		if a, asked := login(t, u, keyA, "", Refused, rules, after(3*time.Second)); !asked || a.Verdict != auth.Deny {
			t.Errorf("%s: the old password was answered %v, asked %v", name, a.Verdict, asked)
		}
		login(t, u, keyB, "", Accepted, rules, base)
		if a, asked := login(t, u, keyB, "", Refused, rules, after(5*time.Second)); asked || a.Verdict != auth.Allow {
			t.Errorf("%s: the new password was answered %v, asked %v", name, a.Verdict, asked)
		}
	}
}

// A refusal that was asked for before the account was changed takes away what it must, and is not
// held against the secret, which may be the new one; but one that came in between is.
func TestRefusalOlderThanChange(t *testing.T) {
	for _, hashes := range []bool{false, true} {
		for _, since := range []bool{false, true} {
			u, rules := &User{}, defaults()
			old := NewFlow(keyA)
			old.Start(u, rules, base)
			u.Forget()
			if hashes {
				u.Verifiers = []Verifier{{Hash: hashB, First: base, Verified: base, Used: base}}
			}
			u.Verifiers = append(u.Verifiers, Verifier{Key: keyA, First: base, Verified: base, Used: base})
			if since {
				u.refuse(keyA, held, rules, base)
			}
			old.Supersede()
			step := old.Asked(u, Refused, auth.SourceBackend, rules, base)
			if step.Answer.Verdict != auth.Deny || u.keyed(keyA) != nil || (step.Do == Compare) != hashes {
				t.Errorf("hashes %v: %+v, remembered %+v", hashes, step, u.Verifiers)
			}
			if hashes {
				if u.refusal(keyA) == nil {
					t.Error("the refusal is forgotten before the hashes were looked through")
				}
				old.Compared(u, "", step.Hashes, true, rules, base)
			}
			if _, held := u.Hot(keyA, rules, base); held != since {
				t.Errorf("hashes %v: the refusal is held against the secret: %v, want %v", hashes, held, since)
			}
		}
	}
}

// Though a refusal from before a change is not held against the secret, an acceptance from before
// that refusal came is not remembered; one from after it is.
func TestAcceptanceOlderThanMutedRefusal(t *testing.T) {
	u, rules := &User{}, defaults()
	old, slow := NewFlow(keyA), NewFlow(keyA)
	old.Start(u, rules, base)
	u.Forget()
	old.Supersede()
	slow.Start(u, rules, base)
	old.Asked(u, Refused, auth.SourceBackend, rules, base)
	slow.Asked(u, Accepted, auth.SourceBackend, rules, base)
	if len(u.Verifiers) != 0 {
		t.Errorf("remembered %+v", u.Verifiers)
	}
	older := NewFlow(keyA)
	older.Start(u, rules, base)
	older.Supersede()
	older.Asked(u, Refused, auth.SourceBackend, rules, base)
	if a, asked := login(t, u, keyA, "", Accepted, rules, base); !asked || a.Verdict != auth.Allow || u.keyed(keyA) == nil {
		t.Errorf("answered %v, asked %v, remembered %+v", a.Verdict, asked, u.Verifiers)
	}
}

// What another login has refused after the change stays held against the secret, in whatever order
// the two are refused and have looked through the hashes.
func TestRefusalBesideMutedOne(t *testing.T) {
	for order := range 4 {
		u, rules := &User{Verifiers: []Verifier{{Hash: hashB, First: base, Verified: base, Used: base}}}, defaults()
		old, own := NewFlow(keyA), NewFlow(keyA)
		flows := []*Flow{old, own}
		for _, f := range flows {
			f.Start(u, rules, base)
			f.Compared(u, "", []string{hashB}, false, rules, base)
		}
		old.Supersede()
		if order&1 != 0 {
			slices.Reverse(flows)
		}
		hashes := make(map[*Flow][]string)
		for _, f := range flows {
			hashes[f] = f.Asked(u, Refused, auth.SourceBackend, rules, base).Hashes
		}
		if order&2 != 0 {
			slices.Reverse(flows)
		}
		for _, f := range flows {
			f.Compared(u, "", hashes[f], true, rules, base)
		}
		if _, held := u.Hot(keyA, rules, base); !held {
			t.Errorf("order %d: the refusal is not held against the secret", order)
		}
	}
}
