package memory

import (
	"slices"
	"time"

	"postern/actors/call"
	"postern/actors/domain"
	"postern/actors/slots"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/limit"
	"postern/internal/unixtime"
)

// How long the bookkeeping after a login may have to wait; what would wait for longer is left out, and
// done when the secret is accepted the next time. The comparison of an accepted secret with the user's
// hashes only finds which of them is refreshed; a new hash is what the user has in an outage.
const (
	mergePatience = 10 * time.Second
	hashPatience  = time.Minute
)

// attempts is how often an outcome is taken up again after a panic.
const attempts = 3

// task is the way of a call that memory could not answer: through the disk, hashes, backends and
// the bookkeeping that follows the answer. One goroutine has it at a time. It outlives restarts of
// the shard that owns it.
type task struct {
	shards *Shards
	shard  *supervise.Ref
	call   *call.Call
	domain *domain.Domain      // with which it began, held
	begun  *begun              // counts its work
	router *supervise.RefCount // held: the domain is not idle while a task may still learn something

	login  *cache.Login   // auth only
	bearer *domain.Bearer // nil: the secret is a password
	chain  backend.Chain
	hop    int // index into domain.Hops of the backend being asked
	// change is the plan of an operation that changes something; chain is not used then.
	change *backend.Change
	barred *auth.Answer // by a limit, instead of asking; for auth, if no backend takes the token
	known  bool         // the backend has accepted this secret before
	epoch  uint64       // of the shard, when the first backend was asked
	tries  int
	// instead: the first backend is asked in place of a comparison, to which time is left.
	instead bool
	queued  time.Time // when its comparison began to wait; it keeps its place if it comes back from there
	why     string    // what the last backend with a reason said

	withheld  auth.Source // why a backend was not asked though it could have been; SourceNone: there was none
	noCompare bool        // too many hashes were compared for the account, which is limited

	guess       limit.Guess // auth only: what the limits of the account go by
	heldAddress bool        // the limit of the client's address has counted the task as under way
}

// end releases what the task holds. What it learned has been remembered by then.
func (t *task) end() {
	if t.domain != nil {
		t.domain.Release()
		t.router.Release()
		t.domain = nil
	}
}

// The kinds of outcomes.
type kind uint8

const (
	started  kind = iota // the task has its user's record and begins
	decided              // the first step was decided beside the record's read
	compared             // a comparison with stored hashes has ended
	hashed               // the hash of a new secret has been made
	asked                // a backend has answered
)

// outcome brings the result of a task's work back to its shard.
type outcome struct {
	*task
	kind   kind
	step   cache.Step // decided
	match  string     // compared
	hashes []string   // compared: with which
	ran    bool       // compared: the comparison was made
	leaves bool       // compared: it was not, since the backend answers sooner
	hash   string     // hashed
	reply  slots.Reply
	number int // of the question, in the plan of a change
}

var _ supervise.Continuation = (*outcome)(nil)

// Continues implements supervise.Continuation.
func (*outcome) Continues() {}

// Fail implements supervise.Request: after a panic the outcome is brought again, since a refusal
// that is not remembered would break the cache's promise.
func (o *outcome) Fail(why supervise.Reason) {
	if why == supervise.Panicked && o.tries < attempts {
		o.tries++
		o.shard.Send(o)
		return
	}
	o.call.Fail(why)
	o.end()
}

// firstStep decides on a login or an isuser question, given the user's record. If it only says Ask,
// the question can be put without the shard.
func (t *task) firstStep(user *cache.User) cache.Step {
	now := unixtime.At(t.shards.env.Clock())
	switch {
	case t.login != nil:
		exists, known := user.IsUser(t.call.Name, &t.domain.Rules, now)
		t.guess.Stranger = user.Disposable()
		t.guess.Absent = known && exists.Verdict == auth.Deny
		step := t.login.Start(user, t.shards.rules(t.domain), now)
		if step.Do == cache.Compare && t.login.MayAsk() && t.sooner()(t.shards.Hashing.Expect(t.hashing(), rounds(step.Hashes))) {
			save := step.Save
			step = t.askInstead(user)
			step.Save = save
		}
		return step
	case t.call.Proof != nil, t.call.Req.SignsIn():
		exists, known := user.IsUser(t.call.Name, &t.domain.Rules, now)
		t.guess.Stranger = user.Disposable()
		t.guess.Absent = known && exists.Verdict == auth.Deny
	case t.call.Req.Op == auth.OpIsUser && !t.call.Req.Fresh:
		if a, ok := isUser(t.call, user, &t.domain.Rules, now); ok {
			return cache.Step{Answer: a, Answered: true}
		}
	}
	return cache.Step{Do: cache.Ask}
}

// sooner returns the function that reports whether a question to the first backend is answered sooner than a
// comparison that waits and takes so long. It may be called from any goroutine.
func (t *task) sooner() func(wait, compare time.Duration) bool {
	first := t.domain.Hops[0].Backend
	return func(wait, compare time.Duration) bool {
		if wait == 0 {
			return false
		}
		ask, healthy := first.Expect()
		left := time.Until(t.askBy(true))
		return cache.AskSooner(wait, compare, ask, healthy && ask < left-left/askSpare)
	}
}

// askSpare is the part of a question's time that must be left over, so that it need not be refused a moment later.
const askSpare = 8

// askInstead has the question put in place of a comparison.
func (t *task) askInstead(user *cache.User) cache.Step {
	t.instead = true
	t.call.Trace.Add("cache", "a comparison with stored hashes would have to wait: the backend is asked")
	return t.login.AskInstead(user)
}

// rounds is the work of comparing with hashes.
func rounds(hashes []string) (n int) {
	for _, h := range hashes {
		n += passhash.Rounds(h)
	}
	return n
}

// askBy is when a question that is put now must have its answer, so that there is time for what follows: an
// answer in grace, or instead the comparison in whose place it is put.
func (t *task) askBy(instead bool) time.Time {
	by := t.call.Deadline.Add(-call.GraceTime(t.call.Deadline.Sub(t.call.Received)))
	if instead {
		by = by.Add(-time.Until(by) / 2)
	}
	return by
}

// question is the task's question to its present backend.
func (t *task) question() (*slots.Backend, *slots.Question) {
	c, op, number := t.call, t.call.Req.Op, 0
	if t.change != nil {
		t.hop, op = t.change.Next()
		number = t.change.Taken()
	}
	h := t.domain.Hops[t.hop]
	t.begun.asked.Add(1)
	q := &slots.Question{
		Query:    t.domain.Query(h, c.Asked()),
		Deadline: t.askBy(t.instead),
		Known:    t.known, ID: c.ID, Client: c.Req.Client, Block: t.domain.Name, Guess: t.guess,
		Reply:     func(r slots.Reply) { t.shard.Send(&outcome{task: t, kind: asked, reply: r, number: number}) },
		Abandoned: c.Done,
	}
	q.Query.Op = op
	if op.NeedsSecret() {
		q.Query.Secret = c.Req.Secret
	}
	if own := c.Req.Own; own != nil {
		q.Query.Own, q.Query.Old = true, own.Old
		q.Query.Groups = slices.Concat(q.Query.Groups, own.Groups)
	}
	if t.bearer != nil {
		q.Query.JWT, q.Query.Bearer = t.bearer.JWT, c.Req.Bearer
	}
	if q.Query.Proof = c.Proof; c.Proof != nil { // its message is no password
		q.Query.Secret = auth.Secret{}
	}
	if c.Trace != nil {
		q.Trace = c.Trace.Add
	}
	return h.Backend, q
}

// next is the hop after another one, by index; -1: before all. ok is false if there is none.
func (t *task) next(hop int) (next int, ok bool) {
	for next = hop + 1; next < len(t.domain.Hops); next++ {
		if t.bearer == nil || slices.Contains(t.bearer.Hops, next) {
			return next, true
		}
	}
	return hop, false
}

// after is the hop that is asked after the result of the present one, unless that decides.
func (t *task) after(r *backend.Result) (next int, ok bool) {
	next, ok = t.next(t.hop)
	return next, ok && (!r.Final || t.domain.Hops[next].Backend == t.domain.Hops[t.hop].Backend)
}

// answers says for which name the combined result of the backends is, and which of them gives it.
func (t *task) answers(r backend.Result) (cache.Name, auth.AuthorityID) {
	h, as := t.domain.Hops[t.hop], t.call.As()
	switch {
	case r.Class != backend.Accepted:
		return cache.Name{Account: as, Exact: r.Exact || !t.domain.Folds}, auth.AuthorityID{}
	case r.Account != "":
		as = r.Account
	case h.By.Folds:
		as = auth.FoldUser(as)
	}
	return cache.Name{Account: as, Exact: r.Exact || !h.Alike}, h.By.ID
}

// reason is why the backends refuse a login; empty if they do not say. That one of several has nothing to do with the
// password is no reason.
func (t *task) reason(r *backend.Result) string {
	said := r.Class == backend.Refused && r.Err != nil && t.call.Req.Op == auth.OpAuth
	if !said || r.Absent && t.bearer == nil && len(t.domain.Hops) > 1 {
		return ""
	}
	return r.Err.Error()
}

// compare looks, on the hash pool, for a stored hash that matches the call's secret. What follows an
// answer is left out if it would have to wait for long, unless the cache's promise needs it.
func (t *task) compare(step *cache.Step) {
	t.begun.compares.Add(1)
	c := &comparison{task: t, hashes: step.Hashes, urgent: !step.Answered, owed: step.Owed, since: time.Now()}
	if !c.submit() {
		c.failed()
	}
}

// comparison is the comparison of a secret with stored hashes.
type comparison struct {
	*task
	hashes       []string
	next         int  // the one that is compared next
	urgent, owed bool // the login waits for it; the promise needs it
	since        time.Time
}

// submit queues the comparison, or what is left of it.
func (c *comparison) submit() bool {
	job := hashJob{id: c.hashing(), rounds: rounds(c.hashes[c.next:]), run: c.run, failed: c.failed}
	switch {
	case c.urgent:
		if c.queued.IsZero() {
			c.queued = c.shards.Hashing.place(job.id)
		}
		job.over, job.deadline, job.since = c.call.Done, c.call.Deadline, c.queued
		if c.login.MayAsk() {
			job.leaves, job.left = c.sooner(), func() { c.send(outcome{leaves: true}) }
		}
	case !c.owed:
		job.patience = mergePatience
	}
	return c.shards.Hashing.submit(job, c.urgent)
}

// run compares. Bookkeeping makes room for logins after each hash.
func (c *comparison) run() {
	pool := c.shards.Hashing
	for begun := c.next; c.next < len(c.hashes); c.next++ {
		if pool.closing() || c.urgent && c.call.Done() {
			c.failed()
			return
		}
		if !c.urgent && c.next > begun && pool.loginsWait() && c.submit() {
			return
		}
		if h := c.hashes[c.next]; pool.Match(h, c.call.Req.Secret.Reveal()) {
			c.ended(h)
			return
		}
	}
	c.ended("")
}

func (c *comparison) ended(match string) {
	if c.call.Trace != nil {
		c.call.Trace.Add("cache", "compared with stored hashes in "+time.Since(c.since).Round(time.Millisecond).String())
	}
	c.send(outcome{match: match, ran: true})
}

func (c *comparison) failed() { c.send(outcome{}) }

func (c *comparison) send(o outcome) {
	o.task, o.kind, o.hashes = c.task, compared, c.hashes
	c.shard.Send(&o)
}

// hashing is by what the hash pool is fair: by domain block, since domains under "*" may be invented.
func (t *task) hashing() auth.Identity {
	return auth.Identity{User: t.call.ID.User, Domain: t.domain.Name}
}

// makeHash makes the stored hash of a new secret, at a bcrypt cost. Without it the secret is in memory only, until it
// is accepted again.
func (t *task) makeHash(cost int) {
	t.begun.hashes.Add(1)
	job := hashJob{
		id: t.hashing(), rounds: 1 << cost, patience: hashPatience,
		run: func() {
			hash, err := t.shards.Hashing.Make(t.call.Req.Secret.Reveal(), cost)
			if err != nil {
				t.shards.env.Log.Error("password could not be hashed", "err", err)
			}
			t.shard.Send(&outcome{task: t, kind: hashed, hash: hash})
		},
		failed: func() { t.shard.Send(&outcome{task: t, kind: hashed}) },
	}
	if !t.shards.Hashing.submit(job, false) {
		job.failed()
	}
}

// limitWith finds out what the limit of the account goes by, which the backend's actor keeps. It counts
// the task's question against the limit of its client's address, which may have the cache ask about
// a secret only if that is known. A signed token of the domain's issuer is no guess: a web mail server has expired ones of many users.
// Only where too many were made up, none is verified for a while.
func (t *task) limitWith() {
	c, l, p := t.call, &t.domain.Limits, t.shards
	secret := c.Key.Fingerprint()
	t.guess = limit.Guess{Secret: secret, Rules: &l.User}
	from, ok := limit.Network(c.Req.Client, l.Exempt)
	if !ok {
		return
	}
	now := unixtime.At(p.env.Clock())
	t.guess.From, t.guess.Tainted = p.Addresses.standing(from, secret, now)
	if t.signed() {
		if l.Address.Refusals > 0 && p.Addresses.barred(from, now) {
			t.requireKnown("too many made-up tokens came from the client's address")
		}
		return
	}
	switch p.Addresses.ask(from, secret, &l.Address, now, now.Add(time.Until(c.Deadline))) {
	case limit.Pass:
		t.heldAddress = true
	case limit.Wait:
		t.requireKnown("too many passwords of the client's address are being asked about")
	case limit.Blocked:
		t.requireKnown("too many wrong passwords came from the client's address")
	}
}

// requireKnown makes an unknown secret a temporary failure.
func (t *task) requireKnown(why string) {
	a := auth.Answer{Verdict: auth.Unavailable, Source: auth.SourceLimitAddress, Reason: why}
	if t.login == nil { // the cache knows no secrets for other operations
		t.barred = &a
		return
	}
	t.login.RequireKnown(a)
	t.call.Trace.Add("limit", "unless the cache knows the password, this is a temporary failure: "+why)
}

// refused reports whether a backend that may know the user has refused the secret, which may have been a guess.
func (t *task) refused() bool {
	switch {
	case t.login != nil:
		return !t.signed() && t.chain.Refused()
	case t.call.Proof != nil, t.call.Req.SignsIn():
		return t.chain.Refused()
	case t.call.Req.Op == auth.OpRemoveUser3 && t.change != nil:
		return t.change.Result().Class == backend.Refused
	}
	return false
}

// signed reports whether the secret is a token that its issuer has signed, or is said to have.
func (t *task) signed() bool { return t.bearer != nil && t.bearer.JWT != nil }

// forged reports whether the secret is a made-up token.
func (t *task) forged() bool {
	return t.login != nil && t.bearer != nil && t.chain.Result().Forged
}

// landed reports to the limit of the client's address that the question has ended, and whether a
// backend has refused the secret.
func (t *task) landed(refused bool) {
	forged := t.forged()
	if !t.heldAddress && !refused && !forged {
		return
	}
	c, l, env := t.call, &t.domain.Limits, t.shards.env
	from, known := limit.Network(c.Req.Client, l.Exempt)
	if !known {
		return
	}
	now := unixtime.At(env.Clock())
	if t.heldAddress {
		t.shards.Addresses.landed(from, &l.Address, now)
		t.heldAddress = false
	}
	if refused || forged {
		t.shards.refusedFrom(c, t.domain, from, forged, now)
	}
}
