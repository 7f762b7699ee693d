package cache

import "postern/internal/unixtime"

// Import takes over a verifier that another program has kept, and reports whether that changes
// the user. What was learnt here counts for more than what is older; what is newer makes the
// user's other verifiers stale, as its acceptance would have. Moments in the future are not
// believed: they would prolong every lifetime.
func (u *User) Import(v Verifier, secrets int, now unixtime.Time) bool {
	if v.Hash == "" || u.hashed(v.Hash) >= 0 {
		return false
	}
	v.Verified = min(v.Verified, now)
	v.First, v.Used = min(v.First, v.Verified), min(v.Used, now)
	for i := range u.Verifiers {
		if u.Verifiers[i].Verified >= v.Verified {
			return false
		}
	}
	for i := range u.Verifiers {
		u.Verifiers[i].Stale = true
	}
	u.add(v, &Rules{Secrets: secrets})
	return true
}
