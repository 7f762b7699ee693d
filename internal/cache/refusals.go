package cache

import "slices"

// Refusal is a secret that the backend has refused.
type Refusal struct {
	Key Key
	At  Time

	settling int // comparisons under way that may find a verifier of this secret

	// number is that of the user's refusals, in their order. It is no time, since clocks are set back.
	number uint64
	// muted: it is not held against the secret, but tells an acceptance from before it.
	muted bool
}

// refusal returns what is remembered of a refusal of key, or nil.
func (u *User) refusal(key Key) *Refusal {
	for i := range u.Refusals {
		if u.Refusals[i].Key == key {
			return &u.Refusals[i]
		}
	}
	return nil
}

func (u *User) refuse(key Key, r *Rules, now Time) {
	u.refused++
	if f := u.refusal(key); f != nil {
		f.At, f.number = now, u.refused
		return
	}
	if len(u.Refusals) >= r.Refusals {
		for i := range u.Refusals {
			if u.Refusals[i].settling == 0 {
				u.Refusals = append(u.Refusals[:i], u.Refusals[i+1:]...)
				break
			}
		}
	}
	u.Refusals = append(u.Refusals, Refusal{Key: key, At: now, number: u.refused})
}

func (u *User) pardon(key Key) {
	for i, f := range u.Refusals {
		if f.Key == key {
			u.Refusals = append(u.Refusals[:i], u.Refusals[i+1:]...)
			return
		}
	}
}

func (u *User) settled(key Key) {
	if f := u.refusal(key); f != nil && f.settling > 0 {
		f.settling--
	}
}

// settling reports whether a refused secret is being compared with the user's hashes.
func (u *User) settling() bool {
	return slices.ContainsFunc(u.Refusals, func(f Refusal) bool { return f.settling > 0 })
}

// Doubt makes everything be asked again at its next use, as after a change of which nobody
// knows whether it was made.
func (u *User) Doubt() {
	for i := range u.Verifiers {
		u.Verifiers[i].Stale = true
	}
	u.Refusals = slices.DeleteFunc(u.Refusals, func(f Refusal) bool { return f.settling == 0 })
	u.Exists.Known = false
}

// Reconsider forgets refusals, as when other backends are asked from now on. Passwords that
// were refused stay out of the cache all the same: only their being refused unasked ends.
func (u *User) Reconsider() {
	u.Refusals = slices.DeleteFunc(u.Refusals, func(f Refusal) bool { return f.settling == 0 })
	if !u.Exists.Yes {
		u.Exists = Existence{}
	}
}
