package cache

import (
	"slices"
	"testing"
	"time"

	"postern/internal/auth"
)

// An acceptance that was asked for before a refusal came is answered, but not remembered, whatever
// the clock is set to meanwhile, though the user was out of memory, and though the refusal itself is
// forgotten by then.
func TestAcceptanceOlderThanRefusal(t *testing.T) {
	evict := func(_ *testing.T, u *User, _ *Rules) *User { return &User{} }
	tried := func(t *testing.T, u *User, r *Rules) *User {
		r.Refused = 0
		login(t, u, keyA, "", CannotAnswer, r, base)
		return u
	}
	crowd := func(t *testing.T, u *User, r *Rules) *User {
		for i := range r.Refusals {
			login(t, u, Key{1, byte(i)}, "", Refused, r, base)
		}
		return u
	}
	reconsider := func(_ *testing.T, u *User, _ *Rules) *User { u.ForgetRefusals(); return u }
	for name, c := range map[string]struct {
		refusedAt     time.Duration
		before, after func(*testing.T, *User, *Rules) *User // the refusal
	}{
		"later":                            {time.Second, nil, nil},
		"within the same millisecond":      {0, nil, nil},
		"the clock set back":               {-time.Hour, nil, nil},
		"evicted before the refusal":       {time.Second, evict, nil},
		"evicted after the refusal":        {0, nil, evict},
		"over at a third try":              {0, nil, tried},
		"pushed out by others":             {0, nil, crowd},
		"forgiven, since others are asked": {0, nil, reconsider},
	} {
		u, rules := &User{}, defaults()
		login(t, u, keyB, "", Refused, rules, base)
		slow, quick := NewLogin(keyA, ""), NewLogin(keyA, "")
		slow.Start(u, rules, base)
		quick.Start(u, rules, base)
		if c.before != nil {
			u = c.before(t, u, rules)
		}
		quick.BackendAnswered(u, Refused, auth.SourceBackend, rules, after(c.refusedAt))
		if c.after != nil {
			u = c.after(t, u, rules)
		}
		if past := u.refusal(keyA); c.after != nil && past != nil && past.standing == held {
			t.Errorf("%s: the refusal still holds", name)
		}
		step := slow.BackendAnswered(u, Accepted, auth.SourceBackend, rules, after(2*time.Second))
		if step.Answer.Verdict != auth.Allow || len(u.Verifiers) != 0 {
			t.Errorf("%s: answered %v, remembered %+v", name, step.Answer.Verdict, u.Verifiers)
		}
	}
}

// What happened to the refusal of another secret, before the question, does not keep the answer
// from being remembered.
func TestAcceptanceBesideLostRefusal(t *testing.T) {
	u, rules := &User{}, defaults()
	rules.Refused, rules.Refusals = 0, 1
	for i := range 3 {
		login(t, u, Key{1, byte(i)}, "", Refused, rules, base)
	}
	login(t, u, Key{1, 2}, "", CannotAnswer, rules, base)
	if a, _ := login(t, u, keyA, "", Accepted, rules, base); a.Verdict != auth.Allow || u.keyed(keyA, "") == nil {
		t.Errorf("answered %v, remembered %+v", a.Verdict, u.Verifiers)
	}
}

// An acceptance that was asked for after a refusal came cancels the refusal, however the clock
// jumps.
func TestAcceptanceYoungerThanRefusal(t *testing.T) {
	for _, at := range []time.Duration{6 * time.Minute, 0, -time.Hour} {
		u, rules := &User{}, defaults()
		rules.Refused = 0
		login(t, u, keyA, "", Refused, rules, base)
		if a, _ := login(t, u, keyA, "", Accepted, rules, after(at)); a.Verdict != auth.Allow || u.keyed(keyA, "") == nil {
			t.Errorf("%v after the refusal: answered %v, remembered %+v", at, a.Verdict, u.Verifiers)
		}
	}
}

// A login that is at the backend while the account is changed is answered, but its password may
// be the old one and is not remembered. One that is asked later is, within the same millisecond too.
func TestAcceptanceOlderThanChange(t *testing.T) {
	for name, change := range map[string]func(*User){"forget": (*User).Forget, "doubt": (*User).Invalidate} {
		u, rules := &User{}, defaults()
		old := NewLogin(keyA, "")
		old.Start(u, rules, base)
		change(u)
		old.Supersede()
		step := old.BackendAnswered(u, Accepted, auth.SourceBackend, rules, base)
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
			old := NewLogin(keyA, "")
			old.Start(u, rules, base)
			u.Forget()
			if hashes {
				u.Verifiers = []Verifier{{Hash: hashB, First: base, Verified: base, Used: base}}
			}
			u.Verifiers = append(u.Verifiers, Verifier{Key: keyA, First: base, Verified: base, Used: base})
			if since {
				u.refuse(keyA, Name{}, held, rules, base)
			}
			old.Supersede()
			step := old.BackendAnswered(u, Refused, auth.SourceBackend, rules, base)
			if step.Answer.Verdict != auth.Deny || u.keyed(keyA, "") != nil || (step.Do == Compare) != hashes {
				t.Errorf("hashes %v: %+v, remembered %+v", hashes, step, u.Verifiers)
			}
			if hashes {
				if u.refusal(keyA) == nil {
					t.Error("the refusal is forgotten before the hashes were looked through")
				}
				old.Compared(u, "", step.Hashes, true, rules, base)
			}
			if _, held := u.Hot(keyA, "", "", rules, base); held != since {
				t.Errorf("hashes %v: the refusal is held against the secret: %v, want %v", hashes, held, since)
			}
		}
	}
}

// Though a refusal from before a change is not held against the secret, an acceptance from before
// that refusal came is not remembered; one from after it is.
func TestAcceptanceOlderThanMutedRefusal(t *testing.T) {
	u, rules := &User{}, defaults()
	old, slow := NewLogin(keyA, ""), NewLogin(keyA, "")
	old.Start(u, rules, base)
	u.Forget()
	old.Supersede()
	slow.Start(u, rules, base)
	old.BackendAnswered(u, Refused, auth.SourceBackend, rules, base)
	slow.BackendAnswered(u, Accepted, auth.SourceBackend, rules, base)
	if len(u.Verifiers) != 0 {
		t.Errorf("remembered %+v", u.Verifiers)
	}
	older := NewLogin(keyA, "")
	older.Start(u, rules, base)
	older.Supersede()
	older.BackendAnswered(u, Refused, auth.SourceBackend, rules, base)
	if a, asked := login(t, u, keyA, "", Accepted, rules, base); !asked || a.Verdict != auth.Allow || u.keyed(keyA, "") == nil {
		t.Errorf("answered %v, asked %v, remembered %+v", a.Verdict, asked, u.Verifiers)
	}
}

// What another login has refused after the change stays held against the secret, in whatever order
// the two are refused and have looked through the hashes.
func TestRefusalBesideMutedOne(t *testing.T) {
	for order := range 4 {
		u, rules := &User{Verifiers: []Verifier{{Hash: hashB, First: base, Verified: base, Used: base}}}, defaults()
		old, own := NewLogin(keyA, ""), NewLogin(keyA, "")
		flows := []*Login{old, own}
		for _, f := range flows {
			f.Start(u, rules, base)
			f.Compared(u, "", []string{hashB}, false, rules, base)
		}
		old.Supersede()
		if order&1 != 0 {
			slices.Reverse(flows)
		}
		hashes := make(map[*Login][]string)
		for _, f := range flows {
			hashes[f] = f.BackendAnswered(u, Refused, auth.SourceBackend, rules, base).Hashes
		}
		if order&2 != 0 {
			slices.Reverse(flows)
		}
		for _, f := range flows {
			f.Compared(u, "", hashes[f], true, rules, base)
		}
		if _, held := u.Hot(keyA, "", "", rules, base); !held {
			t.Errorf("order %d: the refusal is not held against the secret", order)
		}
	}
}
