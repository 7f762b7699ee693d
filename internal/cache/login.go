package cache

import (
	"postern/internal/auth"

	"postern/internal/unixtime"
)

// Outcome is what a login's question to the backend came to.
type Outcome uint8

const (
	// CannotAnswer: an outage or a throttled backend; the cache may serve in grace.
	CannotAnswer Outcome = iota
	// Accepted: the backend said yes.
	Accepted
	// Refused: the backend said no.
	Refused
	// Misconfigured: the backend is misconfigured, or one has refused what another cannot tell about (see
	// Suspect); nobody gets in by grace.
	Misconfigured
	// Busy: too many requests wait for the backend. As CannotAnswer, but no hash is
	// computed for it: work would only add to the load.
	Busy
	// Unsupported: the backend does not have the operation.
	Unsupported
	// Withheld: the backend was not asked, for a wrong password would harm; one that the cache
	// knows may still be asked about.
	Withheld
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
	Known    bool // Ask: the backend has accepted this secret before
	Save     bool // the user's record changed and is to be written now
	Lasting  bool // the answer must not leave before what Save writes is durable
	Touched  bool // only "last used" changed: to be written some time
}

// Login is the way of one login through the cache: a state machine that is told what came
// of the work it wanted. It holds no secret. It is used by one goroutine at a time, and
// the User may be another at each call (reloaded, or forgotten meanwhile).
type Login struct {
	key    Key
	phase  phase
	tried  []string // hashes that are known not to match
	asked  *User    // as he was in memory when the backend was asked
	before uint64   // his refusals until then
	busy   auth.Answer
	bar    *auth.Answer // of a secret that the cache does not know, in place of asking

	outdated   bool // see Outdate
	superseded bool // see Supersede
	suspect    bool // see Suspect
	search     bool // a verifier of the suspect secret may stand among those not yet tried
}

type phase uint8

const (
	phaseStart   phase = iota
	phaseFresh         // comparing with fresh verifiers, to answer without asking
	phaseAsked         // the backend has the question
	phaseKnown         // comparing with all verifiers, since only a known secret may be asked about
	phaseGrace         // comparing with verifiers within the outage lifetime
	phaseAdopt         // accepted: looking for the verifier this secret has
	phaseHash          // accepted: hashing a new secret
	phaseDrop          // refused: looking for the verifier to remove
	phaseSuspect       // suspected: looking for the verifier that is not to serve
	phaseEnd
)

// NewLogin starts the way of a login whose secret is key.
func NewLogin(key Key) *Login { return &Login{key: key} }

// Hot answers a login from memory alone: no flow, no work, no allocation. It is the first
// step of every flow, and the only one that most logins take.
func (u *User) Hot(key Key, r *Rules, now unixtime.Time) (step Step, ok bool) {
	if r.Off {
		return step, false
	}
	if f := u.refusal(key); f != nil && f.standing == held {
		if f.At.Within(r.Refused, now) {
			return answer(auth.Deny, auth.SourceRefusedBefore), true
		}
		if f.settling > 0 {
			return step, false
		}
		f.standing = muted
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
func (f *Login) Start(u *User, r *Rules, now unixtime.Time) Step {
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

func (f *Login) ask(u *User, now unixtime.Time) Step {
	known := u.keyed(f.key) != nil
	if f.bar != nil && !known {
		return f.unasked(u)
	}
	f.phase, f.asked, f.before = phaseAsked, u, u.refused
	return Step{Do: Ask, Known: known}
}

// unknown lists the hashes of verifiers that may be this secret's and satisfy ok.
func (f *Login) unknown(u *User, ok func(*Verifier) bool) (hashes []string) {
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
func (f *Login) Compared(u *User, match string, hashes []string, ran bool, r *Rules, now unixtime.Time) Step {
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
	case phaseKnown:
		changed := !ran && f.doubt(u, hashes)
		step := f.comparedFresh(u, match, r, now)
		step.Save = step.Save || changed
		return step
	case phaseGrace:
		return f.comparedGrace(u, match, r, now)
	case phaseAdopt:
		return f.adopt(u, match, r, now)
	case phaseDrop:
		f.phase = phaseEnd
		f.dropMatch(u, match, hashes, ran)
		u.settled(f.key)
		return Step{Save: r.Hashed}
	case phaseSuspect:
		f.phase = phaseEnd
		f.suspectMatch(u, match, hashes, ran)
		u.settled(f.key)
		return Step{Save: r.Hashed}
	}
	return Step{}
}

// comparedFresh allows by a hash, unless something else was learned of the secret while
// the hash was computed.
func (f *Login) comparedFresh(u *User, match string, r *Rules, now unixtime.Time) Step {
	changed := f.learn(u, match)
	step, ok := u.Hot(f.key, r, now)
	if !ok {
		step = f.ask(u, now)
		step.Save = changed
		return step
	}
	f.phase = phaseEnd
	step.Save = changed
	if step.Answer.Verdict == auth.Allow {
		step.Answer.Source = auth.SourceCache
	}
	return step
}

func (f *Login) comparedGrace(u *User, match string, r *Rules, now unixtime.Time) Step {
	step := answered(f.busy)
	step.Save = f.learn(u, match)
	f.phase = phaseEnd
	if v := u.keyed(f.key); v != nil && v.grace(r, now) && u.refusal(f.key) == nil {
		step.Answer = auth.Answer{Verdict: auth.Allow, Source: auth.SourceGrace}
	}
	return step
}

// learn notes that the verifier with the hash is the one of this secret, or drops it if the
// secret was refused while the hash was computed. It reports whether a record has changed.
func (f *Login) learn(u *User, match string) (changed bool) {
	i := -1
	if match != "" {
		i = u.hashed(match)
	}
	if i < 0 {
		return false
	}
	past := u.refusal(f.key)
	if past != nil && past.standing != suspected {
		u.drop(i)
		return true
	}
	if u.keyed(f.key) == nil {
		u.Verifiers[i].Key = f.key
	}
	return past != nil && u.Verifiers[i].suspect()
}

// Outdate tells that the question was put under another configuration: an acceptance is
// answered, but not remembered, while a refusal counts as ever.
func (f *Login) Outdate() { f.outdated = true }

// Supersede tells that accounts were changed, or forgotten, after the question was put: the answer
// may be of a password that was exchanged meanwhile. It is given, but what was accepted is not
// remembered, and what was refused is forgotten, but not held against the secret.
func (f *Login) Supersede() { f.superseded = true }

func answer(v auth.Verdict, s auth.Source) Step {
	return answered(auth.Answer{Verdict: v, Source: s})
}

func answered(a auth.Answer) Step { return Step{Answer: a, Answered: true} }
