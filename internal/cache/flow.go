package cache

import "postern/internal/auth"

// Outcome is what a login's question to the backend came to.
type Outcome uint8

const (
	// CannotAnswer: an outage or a throttled backend; the cache may serve in grace.
	CannotAnswer Outcome = iota
	// Accepted: the backend said yes.
	Accepted
	// Refused: the backend said no.
	Refused
	// Broken: the backend is misconfigured; nobody gets in by grace.
	Broken
	// Busy: too many requests wait for the backend. As CannotAnswer, but no hash is
	// computed for it: work would only add to the load.
	Busy
	// NotThere: the backend does not have the operation.
	NotThere
)

// Do is the work that a Flow wants done next.
type Do uint8

const (
	// Nothing: the flow has ended.
	Nothing Do = iota
	// Compare: find the hash among Step.Hashes that the secret matches; then Compared.
	Compare
	// Ask: ask the backend; then Asked.
	Ask
	// Hash: hash the secret; then WasHashed.
	Hash
)

// Step is what a Flow decided. Answer and Do may come together: the answer does not wait
// for the bookkeeping that follows it.
type Step struct {
	Answer   auth.Answer
	Answered bool
	Do       Do
	Hashes   []string
	Save     bool // the user's record changed and is to be written now
	Touched  bool // only "last used" changed: to be written some time
}

// Flow is the way of one login through the cache: a state machine that is told what came
// of the work it wanted. It holds no secret. It is used by one goroutine at a time, and
// the User may be another at each call (reloaded, or forgotten meanwhile).
type Flow struct {
	key     Key
	phase   phase
	tried   []string // hashes that are known not to match
	started Time     // when the backend was asked
	changes uint64   // of the user, at that time
	busy    auth.Answer

	outdated bool // see Outdate
}

type phase uint8

const (
	phaseStart phase = iota
	phaseFresh       // comparing with fresh verifiers, to answer without asking
	phaseAsked       // the backend has the question
	phaseGrace       // comparing with verifiers within the outage lifetime
	phaseAdopt       // accepted: looking for the verifier this secret has
	phaseHash        // accepted: hashing a new secret
	phaseDrop        // refused: looking for the verifier to remove
	phaseEnd
)

// NewFlow starts the way of a login whose secret is key.
func NewFlow(key Key) *Flow { return &Flow{key: key} }

// Hot answers a login from memory alone: no flow, no work, no allocation. It is the first
// step of every flow, and the only one that most logins take.
func (u *User) Hot(key Key, r *Rules, now Time) (step Step, ok bool) {
	if r.Off {
		return step, false
	}
	if f := u.refusal(key); f != nil {
		if f.At.within(r.Refused, now) {
			return answer(auth.Deny, auth.SourceRefusedBefore), true
		}
		if f.settling > 0 {
			return step, false
		}
		u.pardon(key)
	}
	if v := u.keyed(key); v != nil && v.fresh(r, now) {
		v.Used = now
		step = answer(auth.Allow, auth.SourceHot)
		step.Touched = r.Hashed
		return step, true
	}
	return step, false
}

// Start decides the first step.
func (f *Flow) Start(u *User, r *Rules, now Time) Step {
	if step, ok := u.Hot(f.key, r, now); ok {
		f.phase = phaseEnd
		return step
	}
	if !r.Off && u.keyed(f.key) == nil && u.refusal(f.key) == nil {
		if hashes := f.unknown(u, func(v *Verifier) bool { return v.fresh(r, now) }); len(hashes) > 0 {
			f.phase = phaseFresh
			return Step{Do: Compare, Hashes: hashes}
		}
	}
	return f.ask(u, now)
}

func (f *Flow) ask(u *User, now Time) Step {
	f.phase, f.started, f.changes = phaseAsked, now, u.changes
	return Step{Do: Ask}
}

// unknown lists the hashes of verifiers that may be this secret's and satisfy ok.
func (f *Flow) unknown(u *User, ok func(*Verifier) bool) (hashes []string) {
next:
	for i := range u.Verifiers {
		v := &u.Verifiers[i]
		if v.Key != (Key{}) || v.Hash == "" || !ok(v) {
			continue
		}
		for _, t := range f.tried {
			if t == v.Hash {
				continue next
			}
		}
		hashes = append(hashes, v.Hash)
	}
	return hashes
}

// Compared tells which of the hashes matched: "" for none. ran is false when the
// comparison could not be made.
func (f *Flow) Compared(u *User, match string, hashes []string, ran bool, r *Rules, now Time) Step {
	if ran {
		for _, h := range hashes {
			if h != match {
				f.tried = append(f.tried, h)
			}
		}
	}
	switch f.phase {
	case phaseFresh:
		return f.comparedFresh(u, match, r, now)
	case phaseGrace:
		return f.comparedGrace(u, match, r, now)
	case phaseAdopt:
		return f.adopt(u, match, r, now)
	case phaseDrop:
		f.phase = phaseEnd
		u.settled(f.key)
		return Step{Save: f.dropMatch(u, match, hashes, ran)}
	}
	return Step{}
}

// comparedFresh allows by a hash, unless something else was learned of the secret while
// the hash was computed.
func (f *Flow) comparedFresh(u *User, match string, r *Rules, now Time) Step {
	dropped := f.learn(u, match)
	step, ok := u.Hot(f.key, r, now)
	if !ok {
		step = f.ask(u, now)
		step.Save = dropped
		return step
	}
	f.phase = phaseEnd
	step.Save = dropped
	if step.Answer.Verdict == auth.Allow {
		step.Answer.Source = auth.SourceCache
	}
	return step
}

func (f *Flow) comparedGrace(u *User, match string, r *Rules, now Time) Step {
	step := answered(f.busy)
	step.Save = f.learn(u, match)
	f.phase = phaseEnd
	if v := u.keyed(f.key); v != nil && v.grace(r, now) && u.refusal(f.key) == nil {
		step.Answer = auth.Answer{Verdict: auth.Allow, Source: auth.SourceGrace}
	}
	return step
}

// learn notes that the verifier with the hash is the one of this secret, or drops it if the
// secret was refused while the hash was computed.
func (f *Flow) learn(u *User, match string) (dropped bool) {
	i := -1
	if match != "" {
		i = u.hashed(match)
	}
	switch {
	case i < 0:
	case u.refusal(f.key) != nil:
		u.drop(i)
		return true
	case u.keyed(f.key) == nil:
		u.Verifiers[i].Key = f.key
	}
	return false
}

// Outdate tells that the question was put under another configuration: an acceptance is
// answered, but not remembered, while a refusal counts as ever.
func (f *Flow) Outdate() { f.outdated = true }

// Asked takes the backend's answer.
func (f *Flow) Asked(u *User, outcome Outcome, source auth.Source, r *Rules, now Time) Step {
	if f.phase != phaseAsked {
		return Step{}
	}
	switch outcome {
	case Accepted:
		return f.accepted(u, r, now)
	case Refused:
		return f.refused(u, r, now)
	case CannotAnswer, Busy:
		return f.cannotAnswer(u, outcome, source, r, now)
	}
	f.phase = phaseEnd
	verdict := auth.Unavailable
	if outcome == NotThere {
		verdict, source = auth.Unsupported, auth.SourceUnsupported
	}
	return answer(verdict, source)
}

func (f *Flow) accepted(u *User, r *Rules, now Time) Step {
	step := answer(auth.Allow, auth.SourceBackend)
	f.phase = phaseEnd
	if r.Off || f.outdated || u.changes != f.changes {
		return step
	}
	if past := u.refusal(f.key); past != nil {
		if past.At >= f.started {
			// It was refused after this question was put: which of the two is the
			// backend's last word nobody knows, so nothing is remembered.
			return step
		}
		u.pardon(f.key)
	}
	u.Exists = Existence{Known: true, Yes: true, At: now}
	if v := u.keyed(f.key); v != nil {
		v.Verified, v.Used, v.Stale = now, now, false
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

// newSecret settles a secret never seen before: the user's others must be verified again,
// so that a changed password dies.
func (f *Flow) newSecret(u *User, step Step, r *Rules) Step {
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
func (f *Flow) adopt(u *User, match string, r *Rules, _ Time) Step {
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

// WasHashed takes the hash of a new secret; "" when it could not be made, in which case
// the secret is remembered by this process only.
func (f *Flow) WasHashed(u *User, hash string) Step {
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

func (f *Flow) refused(u *User, r *Rules, now Time) Step {
	step := answer(auth.Deny, auth.SourceBackend)
	f.phase = phaseEnd
	if r.Off {
		return step
	}
	step.Save = u.dropKeyed(f.key) && r.Hashed
	u.refuse(f.key, r, now)
	// A hash not yet tried may be this secret's too: until that is known, the refusal is
	// not forgotten, however short its lifetime.
	if step.Hashes = f.unknown(u, func(*Verifier) bool { return true }); len(step.Hashes) > 0 {
		f.phase, step.Do = phaseDrop, Compare
		u.refusal(f.key).settling++
	}
	return step
}

// dropMatch removes the verifier of a refused secret. When the comparison could not be
// made, each that might be it goes: losing a cached password costs a question, keeping a
// refused one would break the promise.
func (f *Flow) dropMatch(u *User, match string, hashes []string, ran bool) (changed bool) {
	gone := []string{match}
	if !ran {
		gone = hashes
	}
	for _, h := range gone {
		if h == "" {
			continue
		}
		// One whose secret has become known meanwhile is another's: this flow's own was
		// dropped by key.
		if i := u.hashed(h); i >= 0 && (ran || u.Verifiers[i].Key == (Key{})) {
			u.drop(i)
			changed = true
		}
	}
	return changed
}

func (f *Flow) cannotAnswer(u *User, outcome Outcome, source auth.Source, r *Rules, now Time) Step {
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

func answer(v auth.Verdict, s auth.Source) Step {
	return answered(auth.Answer{Verdict: v, Source: s})
}

func answered(a auth.Answer) Step { return Step{Answer: a, Answered: true} }
