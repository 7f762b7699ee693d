package cache

import (
	"postern/internal/auth"

	"postern/internal/unixtime"
)

// BackendAnswered takes the backend's answer.
func (f *Login) BackendAnswered(u *User, outcome Outcome, source auth.Source, r *Rules, now unixtime.Time) Step {
	if f.phase != phaseAsked {
		return Step{}
	}
	switch outcome {
	case Accepted:
		return f.accepted(u, r, now)
	case Refused:
		return f.refused(u, r, now)
	}
	if f.suspect && !r.Off {
		return f.suspected(u, outcome, source, r, now)
	}
	return f.undecided(u, outcome, source, r, now)
}

// undecided takes an answer that is neither yes nor no.
func (f *Login) undecided(u *User, outcome Outcome, source auth.Source, r *Rules, now unixtime.Time) Step {
	switch outcome {
	case CannotAnswer, Busy:
		return f.cannotAnswer(u, outcome, source, r, now)
	case Withheld:
		return f.withheld(u, source, now)
	}
	f.phase = phaseEnd
	verdict := auth.Unavailable
	if outcome == Unsupported {
		verdict, source = auth.Unsupported, auth.SourceUnsupported
	}
	return answer(verdict, source)
}

func (f *Login) accepted(u *User, r *Rules, now unixtime.Time) Step {
	step := answer(auth.Allow, auth.SourceBackend)
	f.phase = phaseEnd
	if r.Off || f.outdated || f.superseded || f.overtaken(u) {
		return step
	}
	u.pardon(f.key)
	u.Exists = Existence{Known: true, Yes: true, At: now}
	if v := u.keyed(f.key); v != nil {
		v.Verified, v.Used, v.Stale, v.Suspect = now, now, false, false
		if v.Hash == "" && r.Hashed {
			f.phase, step.Do = phaseHash, Hash
			return step
		}
		step.Save = r.Hashed
		return step
	}
	// What is already hashed may be this secret: until that is known, it stands beside them.
	hashes := f.unknown(u, func(*Verifier) bool { return true })
	u.add(Verifier{Key: f.key, First: now, Verified: now, Used: now}, r)
	if len(hashes) > 0 {
		f.phase, step.Do, step.Hashes = phaseAdopt, Compare, hashes
		return step
	}
	return f.newSecret(u, step, r)
}

// overtaken reports whether the secret was refused after this question was put, or may have been,
// since the user was out of memory meanwhile, or a refusal of his is forgotten. Which of the two is
// the backend's last word nobody knows, so an acceptance is not remembered.
func (f *Login) overtaken(u *User) bool {
	past := u.refusal(f.key)
	return u != f.asked || u.lost > f.before || past != nil && past.number > f.before
}

// newSecret settles a secret never seen before: the user's others must be verified again,
// so that a changed password dies.
func (f *Login) newSecret(u *User, step Step, r *Rules) Step {
	u.staleOthers(f.key)
	f.phase = phaseEnd
	if r.Hashed {
		f.phase, step.Do = phaseHash, Hash
		step.Save = true // the others' staleness must not wait for the hash
	}
	return step
}

// adopt merges the new verifier of an accepted secret with the one that it turned out to
// have.
func (f *Login) adopt(u *User, match string, r *Rules, _ unixtime.Time) Step {
	fresh := u.keyed(f.key)
	if fresh == nil { // forgotten or refused meanwhile
		f.phase = phaseEnd
		return Step{}
	}
	i := -1
	if match != "" {
		i = u.hashed(match)
	}
	if i < 0 {
		return f.newSecret(u, Step{}, r)
	}
	fresh.Hash, fresh.First = match, u.Verifiers[i].First
	u.drop(i)
	f.phase = phaseEnd
	return Step{Save: true}
}

// Hashed takes the hash of a new secret; "" when it could not be made, in which case
// the secret is remembered by this process only.
func (f *Login) Hashed(u *User, hash string) Step {
	if f.phase != phaseHash {
		return Step{}
	}
	f.phase = phaseEnd
	v := u.keyed(f.key)
	if v == nil || hash == "" {
		return Step{}
	}
	v.Hash = hash
	return Step{Save: true}
}

func (f *Login) refused(u *User, r *Rules, now unixtime.Time) Step {
	step := answer(auth.Deny, auth.SourceBackend)
	f.phase = phaseEnd
	if r.Off {
		return step
	}
	step.Save = u.dropKeyed(f.key) && r.Hashed
	counts := held
	if f.superseded {
		counts = muted
	}
	u.refuse(f.key, counts, r, now)
	// A hash not yet tried may be this secret's too: until that is known, the refusal is
	// not forgotten, however short its lifetime, and such hashes are not on disk.
	if step.Hashes = f.unknown(u, func(*Verifier) bool { return true }); len(step.Hashes) > 0 {
		f.phase, step.Do, step.Save = phaseDrop, Compare, r.Hashed
		u.refusal(f.key).settling++
	}
	step.Lasting = step.Save // a crash must not bring back what somebody was told is refused
	return step
}

// dropMatch removes the verifier of a refused secret. When the comparison could not be
// made, each that might be it goes: losing a cached password costs a question, keeping a
// refused one would break the promise.
func (f *Login) dropMatch(u *User, match string, hashes []string, ran bool) {
	u.eachMatch(match, hashes, ran, func(i int) { u.drop(i) })
}

// eachMatch calls do for the verifier that a comparison has found. When it could not be made,
// for each that might be the one.
func (u *User) eachMatch(match string, hashes []string, ran bool, do func(i int)) {
	found := []string{match}
	if !ran {
		found = hashes
	}
	for _, h := range found {
		if h == "" {
			continue
		}
		// One whose secret has become known meanwhile is another's: the flow's own was met
		// by key.
		if i := u.hashed(h); i >= 0 && (ran || u.Verifiers[i].Key == (Key{})) {
			do(i)
		}
	}
}

func (f *Login) cannotAnswer(u *User, outcome Outcome, source auth.Source, r *Rules, now unixtime.Time) Step {
	f.phase = phaseEnd
	f.busy = auth.Answer{Verdict: auth.Unavailable, Source: source}
	if r.Off || u.refusal(f.key) != nil {
		return answered(f.busy)
	}
	if v := u.keyed(f.key); v != nil {
		if v.grace(r, now) {
			return answer(auth.Allow, auth.SourceGrace)
		}
		return answered(f.busy)
	}
	if outcome == Busy {
		return answered(f.busy)
	}
	if hashes := f.unknown(u, func(v *Verifier) bool { return v.grace(r, now) }); len(hashes) > 0 {
		f.phase = phaseGrace
		return Step{Do: Compare, Hashes: hashes}
	}
	return answered(f.busy)
}
