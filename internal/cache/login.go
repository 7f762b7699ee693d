package cache

import (
	"crypto/hmac"
	"slices"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// Outcome is the result of a login's question to the backend.
type Outcome uint8

const (
	// CannotAnswer: an outage or a throttled backend; the cache may answer in grace.
	CannotAnswer Outcome = iota
	// Accepted: the backend said yes.
	Accepted
	// Refused: the backend said no.
	Refused
	// Misconfigured: the backend is misconfigured, or one backend has refused the secret while
	// another is unavailable (see Suspect). There is no grace.
	Misconfigured
	// Busy: too many requests wait for the backend. As CannotAnswer, but no hash is computed for grace:
	// work would only add to the load.
	Busy
	// Unsupported: the backend does not have the operation.
	Unsupported
	// Withheld: the question was not put, since a wrong password would do harm. It may still be
	// put for a secret that the cache knows.
	Withheld
)

// Do is the work that a Login needs next.
type Do uint8

const (
	// Nothing: the login has ended.
	Nothing Do = iota
	// Compare: find the hash among Step.Hashes that the secret matches, then call Compared.
	Compare
	// Ask: ask the backend, then call BackendAnswered.
	Ask
	// Hash: hash the secret, then call Hashed.
	Hash
	// Follow: what is known of the login is in the record of Step.Alias. The login has ended.
	Follow
)

// Step is a decision of a Login. Answer and Do may come together: the answer does not wait
// for the bookkeeping that follows it.
type Step struct {
	Answer   auth.Answer
	Answered bool
	Do       Do
	Hashes   []string
	Owed     bool // Compare: the promise needs it; other bookkeeping may be left out
	Alias    string
	Known    bool // Ask: the backend has accepted this secret before
	Save     bool // the user's record changed and is to be written now
	Lasting  bool // the answer must not leave before what Save writes is durable
	Touched  bool // only "last used" changed: need not be written at once
}

func answer(v auth.Verdict, s auth.Source) Step {
	return answered(auth.Answer{Verdict: v, Source: s})
}

func answered(a auth.Answer) Step { return Step{Answer: a, Answered: true} }

// accept is a yes that names the account and its groups.
func accept(s auth.Source, account string, g auth.Groups) Step {
	return answered(auth.Answer{Verdict: auth.Allow, Source: s, Account: account, Groups: g})
}

// Login is the way of one login through the cache: a state machine that names the work it needs
// and receives the results. It is used by one goroutine at a time, and
// the User may be another one at each call, reloaded or forgotten in between.
type Login struct {
	key       Key
	as        string      // the spelling of the user
	domain    string      // see Secret
	secret    auth.Secret // see Secret
	service   string      // see For
	phase     phase
	name      Name             // see Answers
	by        auth.AuthorityID // see Answers
	until     unixtime.Time    // see Expires
	groups    auth.Groups      // see InGroups
	tried     []string         // hashes that are known not to match
	searches  *searches        // it is one of them: the refusal of the secret is kept until its comparison has ended
	asked     *User            // the user when the backend was asked
	askedAt   uint64           // the user's number of refusals then
	fallback  auth.Answer      // if no verifier has grace
	undone    *undone          // what has become of a question in place of a comparison, which is made after all
	otherwise *auth.Answer     // for a secret that the cache does not know; see RequireKnown

	askFirst   bool // see AskFirst
	bearer     bool // see Bearer
	first      bool // the first backend vouches for all hashes that may answer without a question
	instead    bool // the backend is asked in place of a comparison; see AskInstead
	moved      bool // it was
	stays      bool // see Stay
	outdated   bool // see Outdate
	superseded bool // see Supersede
	suspect    bool // see Suspect
	search     bool // a verifier of the suspect secret may be among those not yet tried
}

// undone is an answer that is neither yes nor no.
type undone struct {
	outcome Outcome
	source  auth.Source
}

type phase uint8

const (
	phaseStart   phase = iota
	phaseFresh         // comparing with fresh verifiers, to answer without asking
	phaseKnown         // comparing with all verifiers, since only a known secret may be asked about
	phaseAsked         // the backend has the question
	phaseGrace         // comparing with verifiers within the outage lifetime
	phaseMerge         // accepted: looking for the verifier that this secret has already
	phaseHash          // accepted: hashing a new secret
	phaseDrop          // refused: looking for the verifier to remove
	phaseSuspect       // suspected: looking for the verifier that must not answer
	phaseEnd
)

// NewLogin begins a login with the secret key and the spelling as of the user.
func NewLogin(key Key, as string) *Login {
	return &Login{key: key, as: as, name: Name{Account: as, Exact: true}}
}

// Secret gives the login its secret, for the verifiers at rest of Rules.Sealer. Without it they are as good
// as under a lost key. It is called before Start.
func (l *Login) Secret(domain string, secret auth.Secret) { l.domain, l.secret = domain, secret }

// For names the service that the login is for, by which the account's groups may matter. It is called before Start.
func (l *Login) For(service string) { l.service = service }

// InGroups says what the backend has said of the account's groups. It is called before BackendAnswered.
func (l *Login) InGroups(g auth.Groups) { l.groups = g }

// Answers says for which name the answer is, and which backend gives it. It is called before
// BackendAnswered; without it the answer is for the spelling of the login alone, and not kept longer
// than until Settle.
func (l *Login) Answers(name Name, by auth.AuthorityID) { l.name, l.by = name, by }

// Expires says that the secret, if it is accepted, is a bearer token, and when it ends. It is remembered in memory
// only, until then at the latest, and beside the user's passwords, of which it says nothing. It is called before
// BackendAnswered.
func (l *Login) Expires(at unixtime.Time) { l.until = at }

// RequireKnown has the backend asked only if the cache knows the secret. Otherwise the login is
// answered with a, and nothing is remembered. It is called before Start.
func (l *Login) RequireKnown(a auth.Answer) { l.otherwise = &a }

// AskFirst has the question put before a hash is compared, and a hash only if the answer is Withheld
// or an outage: guesses at a limited account would cost a comparison each, and where the backend
// compares hashes itself a login of a known user would take two. It is called before Start.
func (l *Login) AskFirst() { l.askFirst = true }

// Bearer says that the secret is a token of the backend's issuer: it is no password of anything remembered, so that the
// question is put at once, and no hash is compared, however many tokens are made up. A password that it was before its
// issuer was known is forgotten. It is called before Start.
func (l *Login) Bearer() { l.askFirst, l.bearer = true, true }

// MayAsk reports whether AskInstead is possible: the login needs a comparison to be answered without a
// question, and none was put in place of it before. The domain's first backend must be the one that
// vouches for the hashes: the refusal of one that does not know the user would be held against a right
// password if the next one cannot answer.
func (l *Login) MayAsk() bool {
	return l.phase == phaseFresh && l.first && l.otherwise == nil && !l.moved
}

// AskInstead puts the question in place of the comparison that Start has asked for, where MayAsk: see AskSooner.
// If the backend says neither yes nor no, the comparison is made after all.
func (l *Login) AskInstead(u *User) Step {
	l.instead, l.moved = true, true
	return l.ask(u)
}

// Unasked notes that the question of AskInstead was not put, since the backend had too many: it may be put later,
// while the comparison waits. It is called before the answer is given to Return or BackendAnswered.
func (l *Login) Unasked() { l.moved = false }

// Return has the comparison made after AskInstead, as if nothing had been asked. It is for a domain of several
// backends of which the first has said neither yes nor no, in place of BackendAnswered.
func (l *Login) Return(u *User, r *Rules, now unixtime.Time) Step {
	if step, ok := l.compareAfterAll(u, r, now); ok {
		return step
	}
	return l.ask(u)
}

// compareAfterAll is the comparison that AskInstead has put off, if it may still answer the login.
func (l *Login) compareAfterAll(u *User, r *Rules, now unixtime.Time) (step Step, ok bool) {
	l.instead = false
	if step, ok = u.Hot(l.key, l.as, l.service, r, now); ok { // another login has found it
		l.phase = phaseEnd
		return step, true
	}
	if hashes := l.freshHashes(u, r, now); len(hashes) > 0 {
		return l.compare(phaseFresh, hashes), true
	}
	return step, false
}

// Stay has an alias not followed. A login that has followed one stays where it is: two backends may have
// each name lead to the other. It is called before Start.
func (l *Login) Stay() { l.stays = true }

// Outdate notes that the question was put under another configuration: an acceptance is
// answered, but not remembered, while a refusal counts as ever.
func (l *Login) Outdate() { l.outdated = true }

// Supersede notes that accounts were changed or forgotten after the question was put, so the
// answer may concern a former password. It is given, but an acceptance is not remembered, and a
// refusal removes the verifier without being held against the secret.
func (l *Login) Supersede() { l.superseded = true }

// Suspect notes that one of the backends has refused the secret, perhaps rightly, though the answer
// of all is neither yes nor no. It is called before BackendAnswered. The secret may still be asked
// about, but has no grace until it is accepted: the next outage must not accept a password that
// this one did not.
func (l *Login) Suspect() { l.suspect = true }

// Start decides the first step.
func (l *Login) Start(u *User, r *Rules, now unixtime.Time) Step {
	found, changed := l.identify(u, r)
	if step, ok := u.Hot(l.key, l.as, l.service, r, now); ok {
		l.phase = phaseEnd
		if found && step.Answer.Source == auth.SourceHot {
			step.Answer.Source = auth.SourceCache
		}
		step.Save = changed
		return step
	}
	step := l.start(u, r, now)
	step.Save = step.Save || changed
	return step
}

func (l *Login) start(u *User, r *Rules, now unixtime.Time) Step {
	if u.Alias != (Alias{}) && !r.Off && !l.stays {
		l.phase = phaseEnd
		return Step{Do: Follow, Alias: u.Alias.Account}
	}
	if !r.Off && !l.askFirst {
		if hashes := l.freshHashes(u, r, now); len(hashes) > 0 {
			l.first = !slices.ContainsFunc(u.Verifiers, func(v Verifier) bool {
				return slices.Contains(hashes, v.Hash) && len(r.Authorities) > 1 && v.By != r.Authorities[0].ID
			})
			return l.compare(phaseFresh, hashes)
		}
	}
	return l.ask(u)
}

// freshHashes are those that may answer without a question.
func (l *Login) freshHashes(u *User, r *Rules, now unixtime.Time) []string {
	if u.keyed(l.key, l.as) != nil || u.refusal(l.key) != nil {
		return nil
	}
	return l.untried(u, func(v *Verifier) bool { return v.Covers(l.as) && v.fresh(r, l.service, now) })
}

// Compared continues with the hash that matched, "" for none. ran is false when the
// comparison could not be made.
func (l *Login) Compared(u *User, match string, hashes []string, ran bool, r *Rules, now unixtime.Time) Step {
	_, changed := l.identify(u, r)
	step := l.compared(u, match, hashes, ran, r, now)
	step.Save = step.Save || changed || l.searches != nil && r.Hashed
	l.searches = l.searches.end()
	return step
}

func (l *Login) compared(u *User, match string, hashes []string, ran bool, r *Rules, now unixtime.Time) Step {
	if ran {
		for _, h := range hashes {
			if h != match {
				l.tried = append(l.tried, h)
			}
		}
	}
	switch l.phase {
	case phaseFresh:
		return l.comparedFresh(u, match, r, now)
	case phaseKnown:
		changed := !ran && l.notCompared(u, hashes)
		step := l.comparedFresh(u, match, r, now)
		step.Save = step.Save || changed
		return step
	case phaseGrace:
		return l.comparedGrace(u, match, r, now)
	case phaseMerge:
		return l.merge(u, match, ran, r)
	case phaseDrop:
		drop := u.drop // which of them it is, if any, is not known
		if ran {
			drop = u.revoke
		}
		l.eachMatch(u, match, hashes, ran, drop)
	case phaseSuspect:
		l.suspectMatch(u, match, hashes, ran)
	default:
		return Step{}
	}
	l.phase = phaseEnd
	return Step{Save: r.Hashed}
}

// BackendAnswered continues with the backend's answer.
func (l *Login) BackendAnswered(u *User, outcome Outcome, source auth.Source, r *Rules, now unixtime.Time) (step Step) {
	if l.phase != phaseAsked {
		return step
	}
	_, changed := l.identify(u, r)
	switch {
	case outcome == Accepted:
		step = l.accepted(u, r, now)
	case outcome == Refused:
		step = l.refused(u, r, now)
	case l.suspect && !r.Off:
		step = l.suspected(u, outcome, source, r, now)
	default:
		step = l.undecided(u, outcome, source, r, now)
	}
	step.Save = step.Save || changed
	return step
}

// Hashed continues with the hash of a new secret; "" when it could not be made, in which case
// the secret is remembered in memory only.
func (l *Login) Hashed(u *User, hash string) Step {
	if l.phase != phaseHash {
		return Step{}
	}
	l.phase = phaseEnd
	v := u.keyed(l.key, l.as)
	if v == nil || hash == "" {
		return Step{}
	}
	v.Hash = hash
	return Step{Save: true}
}

// compare is the step that looks for the secret's verifier among hashes.
func (l *Login) compare(p phase, hashes []string) Step {
	l.phase = p
	return Step{Do: Compare, Hashes: hashes}
}

// ask is the step that asks the backend, if that is allowed.
func (l *Login) ask(u *User) Step {
	known := u.keyed(l.key, l.as) != nil
	if l.otherwise != nil && !known {
		return l.findKnown(u)
	}
	l.phase, l.asked, l.askedAt = phaseAsked, u, u.refusals
	return Step{Do: Ask, Known: known}
}

// findKnown looks for the verifier of a secret that may be asked about only if it has one.
func (l *Login) findKnown(u *User) Step {
	if past := u.refusal(l.key); past == nil || past.standing == suspected {
		if hashes := l.untried(u, l.covers); len(hashes) > 0 {
			return l.compare(phaseKnown, hashes)
		}
	}
	l.phase = phaseEnd
	return answered(*l.otherwise)
}

// notCompared handles a comparison for findKnown that could not be made: the secret may be known,
// so the answer must not be "no". It reports whether a record has changed.
func (l *Login) notCompared(u *User, hashes []string) (changed bool) {
	l.tried = append(l.tried, hashes...)
	l.otherwise = &auth.Answer{Verdict: auth.Unavailable, Source: l.otherwise.Source}
	past := u.refusal(l.key)
	return (l.suspect || past != nil && past.standing == suspected) && l.suspectMatch(u, "", hashes, false)
}

// untried lists the hashes of verifiers that may be this secret's and satisfy ok. A sealed one is not
// among them: identify has compared it, or its key is lost.
func (l *Login) untried(u *User, ok func(*Verifier) bool) (hashes []string) {
	if l.bearer {
		return nil
	}
	for i := range u.Verifiers {
		v := &u.Verifiers[i]
		if v.Key == (Key{}) && v.Hash != "" && !sealed(v.Hash) && ok(v) && !slices.Contains(l.tried, v.Hash) {
			hashes = append(hashes, v.Hash)
		}
	}
	return hashes
}

func anyVerifier(*Verifier) bool { return true }

func (l *Login) covers(v *Verifier) bool { return v.Covers(l.as) }

// comparedFresh allows by a hash, unless something else was learned of the secret while
// the hash was computed.
func (l *Login) comparedFresh(u *User, match string, r *Rules, now unixtime.Time) Step {
	changed := l.attachKey(u, u.hashed(match), r)
	step, ok := u.Hot(l.key, l.as, l.service, r, now)
	if !ok {
		if before := l.undone; before != nil {
			l.undone = nil
			step = l.undecided(u, before.outcome, before.source, r, now)
		} else {
			step = l.ask(u)
		}
		step.Save = changed
		return step
	}
	l.phase = phaseEnd
	step.Save = changed
	if step.Answer.Source == auth.SourceHot { // grace stays what it is
		step.Answer.Source = auth.SourceCache
	}
	return step
}

func (l *Login) comparedGrace(u *User, match string, r *Rules, now unixtime.Time) Step {
	l.phase = phaseEnd
	changed := l.attachKey(u, u.hashed(match), r)
	step := l.graceOr(u, r, now)
	step.Save = changed
	return step
}

// graceOr allows by the secret's verifier if that has grace, and gives the fallback otherwise.
func (l *Login) graceOr(u *User, r *Rules, now unixtime.Time) Step {
	if v := u.keyed(l.key, l.as); v != nil && v.grace(r, now) && u.refusal(l.key) == nil {
		v.graced = now
		return accept(auth.SourceGrace, v.Account, v.Groups)
	}
	return answered(l.fallback)
}

// attachKey notes that the verifier with the index i, if there is one, is of this secret, or drops it if the
// secret was refused while the hash was computed. Where a Sealer is in force, it takes the place of
// the hash. It reports whether a record has changed.
func (l *Login) attachKey(u *User, i int, r *Rules) (changed bool) {
	if i < 0 {
		return false
	}
	past := u.refusal(l.key)
	if past != nil && past.standing != suspected {
		u.revoke(i)
		return true
	}
	v := &u.Verifiers[i]
	if u.keyed(l.key, l.as) == nil || sealed(v.Hash) {
		v.Key = l.key
	}
	changed = (past != nil || l.suspect) && v.suspect()
	return v.Key == l.key && l.seal(v, r) || changed
}

// identify gives the sealed verifiers of the secret its Key: unlike hashes they take no work to compare. A token has none.
// It reports whether there were some, and whether a record has changed.
func (l *Login) identify(u *User, r *Rules) (found, changed bool) {
	if l.bearer {
		return false, u.dropPassword(l.key)
	}
	if r.Off || r.Sealer == nil || l.secret.Empty() {
		return false, false
	}
	for i := len(u.Verifiers) - 1; i >= 0; i-- { // attachKey may drop one
		v := &u.Verifiers[i]
		if v.Key != (Key{}) || !r.Sealer.made(v.Hash) || !hmac.Equal([]byte(v.Hash), []byte(r.Sealer.seal(l.domain, v.By, v.Account, l.secret))) {
			continue
		}
		found, changed = true, l.attachKey(u, i, r) || changed
	}
	return found, changed
}

// seal gives a verifier of this secret its text for the disk, and reports whether it has another one now. It
// does so only where a Sealer is in force.
func (l *Login) seal(v *Verifier, r *Rules) (changed bool) {
	if !r.Hashed || r.Sealer == nil || l.secret.Empty() {
		return false
	}
	was := v.Hash
	v.Hash = r.Sealer.seal(l.domain, v.By, v.Account, l.secret)
	return v.Hash != was
}

// shed drops the verifiers under a lost key, and reports whether there were some. Whether one of them is
// this secret's is not known: it must not come back with the key after what a backend has said.
func (l *Login) shed(u *User, r *Rules) bool {
	if l.bearer {
		return false
	}
	n := len(u.Verifiers)
	u.Verifiers = slices.DeleteFunc(u.Verifiers, func(v Verifier) bool {
		return v.Key == (Key{}) && sealed(v.Hash) && (l.secret.Empty() || !r.Sealer.made(v.Hash))
	})
	return len(u.Verifiers) < n
}

func (l *Login) accepted(u *User, r *Rules, now unixtime.Time) Step {
	step := accept(auth.SourceBackend, l.name.Account, l.groups)
	l.phase = phaseEnd
	if r.Off || l.outdated || l.superseded || l.refusedMeanwhile(u) || !l.name.Covers(l.as) {
		return step
	}
	// A refusal of another spelling counts until its comparison has ended.
	if i := slices.IndexFunc(u.Refusals, func(f Refusal) bool { return f.Key == l.key && (f.Covers(l.as) || f.settled()) }); i >= 0 {
		u.dropRefusal(i)
	}
	u.Alias = Alias{}
	u.SetExists(true, l.name, l.by, r, now)
	u.SetGroups(l.groups)
	l.shed(u, r)
	if l.until != 0 {
		return l.acceptedToken(u, step, r, now)
	}
	if v := u.keyed(l.key, l.as); v != nil {
		v.Name, v.By, v.Groups, v.Until = l.name, l.by, l.groups, 0
		v.Verified, v.Used, v.Stale, v.Suspect, v.graced = now, now, false, false, 0
		if l.seal(v, r); r.Hashed && v.Hash == "" && l.find(u, &step) {
			return step
		}
		return l.keep(v, step, r)
	}
	v := Verifier{Name: l.name, By: l.by, Groups: l.groups, Key: l.key, First: now, Verified: now, Used: now}
	step.Save = l.seal(&v, r)
	u.add(v, r)
	if l.find(u, &step) { // until it is known whose the hashes are, the verifier stands beside them
		return step
	}
	return l.newSecret(u, step, r)
}

// acceptedToken remembers a bearer token. Nothing of it is written but that its account exists, and it makes no
// other secret stale: a user has a new one every few minutes.
func (l *Login) acceptedToken(u *User, step Step, r *Rules, now unixtime.Time) Step {
	step.Save = r.Hashed
	if v := u.keyed(l.key, l.as); v != nil {
		*v = Verifier{Name: l.name, By: l.by, Groups: l.groups, Key: l.key, First: v.First, Verified: now, Used: now, Until: l.until}
	} else if now < l.until {
		u.add(Verifier{Name: l.name, By: l.by, Groups: l.groups, Key: l.key, First: now, Verified: now, Used: now, Until: l.until}, r)
	}
	return step
}

// find has the hashes compared that may be those of an accepted secret. It is false if there are none.
func (l *Login) find(u *User, step *Step) bool {
	step.Hashes = l.untried(u, l.covers)
	if len(step.Hashes) == 0 {
		return false
	}
	l.phase, step.Do = phaseMerge, Compare
	return true
}

// refusedMeanwhile reports whether the secret was refused after this question was put, or may have
// been, since the user was out of memory meanwhile or a refusal is forgotten. The order in which
// the backend decided is unknown then, so an acceptance is not remembered.
func (l *Login) refusedMeanwhile(u *User) bool {
	past := u.refusal(l.key)
	return u != l.asked || u.lost > l.askedAt || past != nil && past.seq > l.askedAt
}

// keep has the verifier of an accepted secret written, once it has a seal or a hash.
func (l *Login) keep(v *Verifier, step Step, r *Rules) Step {
	l.phase = phaseEnd
	if !r.Hashed {
		return step
	}
	step.Save = true // what else has changed must not wait for the hash
	if l.seal(v, r); v.Hash == "" || sealed(v.Hash) && !r.Sealer.made(v.Hash) {
		l.phase, step.Do = phaseHash, Hash
	}
	return step
}

// newSecret finishes with a secret never seen before: the user's others must be verified again, so
// that a replaced password stops working.
func (l *Login) newSecret(u *User, step Step, r *Rules) Step {
	u.staleOthers(l.key)
	return l.keep(u.keyed(l.key, l.as), step, r)
}

// merge unites the new verifier of an accepted secret with the older one that a comparison has
// found. Without one, the secret may be new: the others are stale until the next acceptance looks again.
func (l *Login) merge(u *User, match string, ran bool, r *Rules) Step {
	l.phase = phaseEnd
	v := u.keyed(l.key, l.as)
	if v == nil { // forgotten or refused meanwhile
		return Step{}
	}
	if !ran {
		u.staleOthers(l.key)
		return Step{Save: r.Hashed}
	}
	i := u.hashed(match)
	if i < 0 {
		return l.newSecret(u, Step{}, r)
	}
	v.Hash, v.First = match, u.Verifiers[i].First
	l.seal(v, r)
	u.drop(i)
	return Step{Save: true}
}

func (l *Login) refused(u *User, r *Rules, now unixtime.Time) Step {
	step := answered(auth.Answer{Verdict: auth.Deny, Source: auth.SourceBackend, Reason: reasonRefused})
	l.phase = phaseEnd
	if r.Off {
		return step
	}
	dropped := u.dropKeyed(l.key)
	u.revoked = u.revoked || dropped
	step.Save = (l.shed(u, r) || dropped) && r.Hashed
	effect := held
	if l.superseded {
		effect = muted
	}
	u.refuse(l.key, l.name, effect, r, now)
	// A hash not yet tried may be this secret's too. Until that is known, the refusal is
	// not forgotten, however short its lifetime, and such hashes are not on disk.
	if l.compareAfter(u, &step, phaseDrop, anyVerifier) {
		step.Save = r.Hashed
	}
	step.Lasting = step.Save // a crash must not bring back a secret after "no" was answered
	return step
}

// compareAfter has the untried verifiers that satisfy ok compared once the step's answer is given,
// and keeps the secret's refusal until then. It is false if there are none.
func (l *Login) compareAfter(u *User, step *Step, p phase, ok func(*Verifier) bool) bool {
	step.Hashes = l.untried(u, ok)
	if len(step.Hashes) == 0 {
		return false
	}
	l.phase, step.Do, step.Owed = p, Compare, true
	l.searches = u.refusal(l.key).search()
	return true
}

// eachMatch calls do with the index of the verifier that a comparison has found. When it could not
// be made, with each that may be the one: losing a cached password costs a question, keeping a
// refused one would break the promise.
func (l *Login) eachMatch(u *User, match string, hashes []string, ran bool, do func(i int)) {
	if ran {
		hashes = []string{match}
	}
	for _, h := range hashes {
		// A verifier with a key by now is of another secret: this login's own was found by its key.
		if i := u.hashed(h); i >= 0 && (ran || u.Verifiers[i].Key == (Key{})) {
			do(i)
		}
	}
}

// suspectMatch suspects what eachMatch finds, and reports whether that changes a record.
func (l *Login) suspectMatch(u *User, match string, hashes []string, ran bool) (changed bool) {
	l.eachMatch(u, match, hashes, ran, func(i int) {
		v := &u.Verifiers[i]
		changed = v.suspect() || changed
		if ran && u.keyed(l.key, v.Account) == nil {
			v.Key = l.key
		}
	})
	return changed
}

// suspected handles an undecided answer about a suspect secret. Its verifier is kept, so that the
// users of the unavailable backend need no new hash after each of its outages, and so that a limit
// still knows the secret.
func (l *Login) suspected(u *User, outcome Outcome, source auth.Source, r *Rules, now unixtime.Time) Step {
	// If a refusal of the secret is remembered, its verifier was looked for already.
	l.search = l.search || u.refusal(l.key) == nil
	u.refuse(l.key, l.name, suspected, r, now)
	changed := l.shed(u, r)
	for i := range u.Verifiers {
		if v := &u.Verifiers[i]; v.Key == l.key {
			changed = v.suspect() || changed
		}
	}
	step := l.undecided(u, outcome, source, r, now)
	if step.Do == Compare { // other secrets must not push the suspicion out while its verifier is not known
		l.searches = u.refusal(l.key).search()
		changed = true // nor may it be lost with the user's memory
	}
	if step.Do == Nothing && l.search {
		l.search = false
		changed = l.compareAfter(u, &step, phaseSuspect, func(v *Verifier) bool { return !v.Suspect }) || changed
	}
	step.Save = step.Save || changed && r.Hashed
	step.Lasting = step.Answered && step.Save
	return step
}

// undecided handles an answer that is neither yes nor no.
func (l *Login) undecided(u *User, outcome Outcome, source auth.Source, r *Rules, now unixtime.Time) Step {
	if l.instead && !l.suspect && !r.Off {
		if step, ok := l.compareAfterAll(u, r, now); ok {
			l.undone = &undone{outcome, source}
			return step
		}
	}
	unavailable := auth.Answer{Verdict: auth.Unavailable, Source: source}
	if outcome == Withheld && l.otherwise == nil {
		// The secret may be a known one. It was looked for already if it was required to be.
		l.otherwise = &unavailable
		return l.ask(u)
	}
	l.phase = phaseEnd
	switch outcome {
	case Unsupported:
		return answer(auth.Unsupported, auth.SourceUnsupported)
	case CannotAnswer, Busy:
	default:
		return answered(unavailable)
	}
	l.fallback = unavailable
	if !r.Off && outcome == CannotAnswer && u.refusal(l.key) == nil && u.keyed(l.key, l.as) == nil {
		if hashes := l.untried(u, func(v *Verifier) bool { return v.grace(r, now) }); len(hashes) > 0 {
			return l.compare(phaseGrace, hashes)
		}
	}
	if r.Off {
		return answered(unavailable)
	}
	return l.graceOr(u, r, now)
}
