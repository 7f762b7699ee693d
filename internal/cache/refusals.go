package cache

import "postern/internal/unixtime"

// Refusal is a secret that the backend has refused.
type Refusal struct {
	Key Key
	At  unixtime.Time

	settling int // comparisons under way that may find a verifier of this secret

	// number is that of the user's refusals, in their order. It is no time, since clocks are set back.
	number   uint64
	standing standing
}

// standing is what a refusal counts for.
type standing uint8

const (
	held      standing = iota // the secret is refused unasked for a while
	muted                     // only tells an acceptance from before it
	suspected                 // as muted; one backend has refused the secret, and another cannot tell
)

// refusal returns what is remembered of a refusal of key, or nil.
func (u *User) refusal(key Key) *Refusal {
	for i := range u.Refusals {
		if u.Refusals[i].Key == key {
			return &u.Refusals[i]
		}
	}
	return nil
}

// refuse remembers a refusal. One that counts for more already goes on doing so.
func (u *User) refuse(key Key, s standing, r *Rules, now unixtime.Time) {
	u.refused++
	if f := u.refusal(key); f != nil {
		f.number = u.refused
		if s <= f.standing {
			f.At, f.standing = now, s
		}
		return
	}
	if len(u.Refusals) >= r.Refusals {
		for i := range u.Refusals {
			if u.Refusals[i].settling == 0 {
				u.lose(i)
				break
			}
		}
	}
	u.Refusals = append(u.Refusals, Refusal{Key: key, At: now, number: u.refused, standing: s})
}

func (u *User) pardon(key Key) {
	for i := range u.Refusals {
		if u.Refusals[i].Key == key {
			u.lose(i)
			return
		}
	}
}

// lose forgets a refusal but for its number: an acceptance that was asked for before it may still
// come.
func (u *User) lose(i int) {
	u.lost = max(u.lost, u.Refusals[i].number)
	u.Refusals = append(u.Refusals[:i], u.Refusals[i+1:]...)
}

// reprieve forgets all refusals but those that are being compared with the user's hashes.
func (u *User) reprieve() {
	for i := len(u.Refusals) - 1; i >= 0; i-- {
		if u.Refusals[i].settling == 0 {
			u.lose(i)
		}
	}
}

func (u *User) settled(key Key) {
	if f := u.refusal(key); f != nil && f.settling > 0 {
		f.settling--
	}
}

// settling reports whether a refused, or a suspected, secret is being compared with the user's
// hashes.
func (u *User) settling() (refused, suspect bool) {
	for _, f := range u.Refusals {
		if f.settling > 0 {
			refused, suspect = refused || f.standing != suspected, suspect || f.standing == suspected
		}
	}
	return refused, suspect
}

// Invalidate makes everything be asked again at its next use, as after a change of which nobody
// knows whether it was made.
func (u *User) Invalidate() {
	for i := range u.Verifiers {
		u.Verifiers[i].Stale = true
	}
	u.reprieve()
	u.Exists.Known = false
}

// ForgetRefusals forgets refusals, as when other backends are asked from now on. Passwords that
// were refused stay out of the cache all the same: only their being refused unasked ends.
func (u *User) ForgetRefusals() {
	u.reprieve()
	if !u.Exists.Yes {
		u.Exists = Existence{}
	}
}
