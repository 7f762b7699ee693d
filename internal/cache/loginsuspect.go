package cache

import (
	"postern/internal/auth"

	"postern/internal/unixtime"
)

// Suspect tells that one of the backends has refused the secret, perhaps rightly, though the answer
// of all is neither yes nor no. It is called before Asked. The secret may be asked about as ever,
// but until it is accepted it is not served in grace either: another outage must not let in whom
// this one kept out.
func (f *Login) Suspect() { f.suspect = true }

// suspected takes an undecided answer about a suspect secret. Its verifier is kept: who is the
// other backend's user is not to be hashed anew after each of its outages.
func (f *Login) suspected(u *User, outcome Outcome, source auth.Source, r *Rules, now unixtime.Time) Step {
	// A secret whose refusal is remembered was looked for already.
	f.search = f.search || u.refusal(f.key) == nil
	u.refuse(f.key, suspected, r, now)
	v := u.keyed(f.key)
	changed := v != nil && v.suspect()
	step := f.undecided(u, outcome, source, r, now)
	if step.Do == Nothing && f.search {
		f.search = false
		if step.Hashes = f.unknown(u, func(v *Verifier) bool { return !v.Suspect }); len(step.Hashes) > 0 {
			f.phase, step.Do, changed = phaseSuspect, Compare, true
			u.refusal(f.key).settling++
		}
	}
	step.Save = step.Save || changed && r.Hashed
	step.Lasting = step.Answered && step.Save
	return step
}

// suspectMatch suspects the verifier that a comparison has found to be the secret's, and reports
// whether that changes it. When the comparison could not be made, each that might be it is.
func (f *Login) suspectMatch(u *User, match string, hashes []string, ran bool) (changed bool) {
	u.eachMatch(match, hashes, ran, func(i int) {
		v := &u.Verifiers[i]
		changed = v.suspect() || changed
		if ran && u.keyed(f.key) == nil {
			v.Key = f.key
		}
	})
	return changed
}
