package memory

import (
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

	login *cache.Login // auth only
	chain backend.Chain
	hop   int // index into domain.Hops of the backend being asked
	// change is the plan of an operation that changes something; chain is not used then.
	change *backend.Change
	barred *auth.Answer // by a limit, instead of asking; not for auth
	known  bool         // the backend has accepted this secret before
	short  bool         // a backend was not asked, for want of a budget
	epoch  uint64       // of the shard, when the first backend was asked
	tries  int

	// What the limits have counted as under way for this task.
	heldUser, heldAddress bool
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
		return t.login.Start(user, &t.domain.Rules, now)
	case t.call.Req.Op == auth.OpIsUser:
		if a, ok := user.IsUser(&t.domain.Rules, now); ok {
			return cache.Step{Answer: a, Answered: true}
		}
	}
	return cache.Step{Do: cache.Ask}
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
	authDomain := h.AuthDomain
	if authDomain == "" {
		authDomain = c.ID.Domain
	}
	q := &slots.Question{
		Query:    backend.Query{Op: op, User: c.ID.User, Domain: authDomain, Logins: t.domain.Logins, ChangeAdmins: t.domain.ChangeAdmins},
		Deadline: c.Deadline.Add(-call.GraceTime(c.Deadline.Sub(c.Received))),
		Known:    t.known, User: c.Hash, Secret: c.Key.Fingerprint(),
		Reply:     func(r slots.Reply) { t.shard.Send(&outcome{task: t, kind: asked, reply: r, number: number}) },
		Abandoned: c.Done,
	}
	if op.NeedsSecret() {
		q.Query.Secret = c.Req.Secret
	}
	if c.Trace != nil {
		q.Trace = c.Trace.Add
	}
	return h.Backend, q
}

// compare looks, on the hash pool, for a stored hash that matches the call's secret.
func (t *task) compare(hashes []string, urgent bool) {
	t.begun.compares.Add(1)
	since := time.Now()
	job := hashJob{
		run: func() {
			match := ""
			for _, h := range hashes {
				if passhash.Match(h, t.call.Req.Secret.Reveal()) {
					match = h
					break
				}
			}
			if t.call.Trace != nil {
				t.call.Trace.Add("cache", "compared with stored hashes in "+time.Since(since).Round(time.Millisecond).String())
			}
			t.shard.Send(&outcome{task: t, kind: compared, match: match, hashes: hashes, ran: true})
		},
		failed: func() { t.shard.Send(&outcome{task: t, kind: compared, hashes: hashes}) },
	}
	if !t.shards.Hashing.submit(job, urgent) {
		job.failed()
	}
}

// makeHash makes the stored hash of a new secret, at a bcrypt cost.
func (t *task) makeHash(cost int) {
	t.begun.hashes.Add(1)
	job := hashJob{
		run: func() {
			hash, err := passhash.New(t.call.Req.Secret.Reveal(), cost)
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

// limitWith counts the task's question against the limits of its user and of its client's address,
// and has the cache give their answer to a secret that it does not know.
func (t *task) limitWith(users *limit.Table[uint64]) {
	c, l := t.call, &t.domain.Limits
	now := unixtime.At(t.shards.env.Clock())
	end := unixtime.At(t.shards.env.Clock().Add(time.Until(c.Deadline)))
	secret := c.Key.Fingerprint()
	var limited bool
	t.heldUser, limited = t.limited(users.Admit(c.Hash, secret, &l.User, now, end), auth.SourceLimitUser)
	if limited {
		return
	}
	if from, ok := limit.Network(c.Req.Client, l.Exempt); ok {
		t.heldAddress, _ = t.limited(t.shards.Addresses.ask(from, secret, &l.Address, now, end), auth.SourceLimitAddress)
	}
}

// limited takes a limit's decision: whether the question counts as under way, and whether it may be
// asked about a known secret only.
func (t *task) limited(d limit.Decision, source auth.Source) (counts, limited bool) {
	switch d {
	case limit.Pass:
		return true, false
	case limit.Wait:
		t.bar(auth.Answer{Verdict: auth.Unavailable, Source: source})
		t.call.Trace.Add("limit", "unless the cache knows the password, this is a temporary failure while others are being asked about ("+source.String()+")")
		return false, true
	case limit.Blocked:
		t.bar(auth.Answer{Verdict: auth.Unavailable, Source: source})
		t.call.Trace.Add("limit", "unless the cache knows the password, this is a temporary failure: there were too many wrong ones ("+source.String()+")")
		return false, true
	}
	return false, false
}

// bar has a question whose secret the cache does not know answered without asking.
func (t *task) bar(a auth.Answer) {
	if t.login != nil {
		t.login.RequireKnown(a)
	} else {
		t.barred = &a
	}
}

// refused reports whether a backend that may know the user has refused the secret.
func (t *task) refused() bool {
	switch {
	case t.login != nil:
		return t.chain.Refused()
	case t.call.Req.Op == auth.OpRemoveUser3 && t.change != nil:
		return t.change.Result().Class == backend.Refused
	}
	return false
}

// landed reports to the limits that the question has ended, and whether a backend has refused the
// secret.
func (t *task) landed(users *limit.Table[uint64], refused bool) {
	if !t.heldUser && !t.heldAddress && !refused {
		return
	}
	c, l, env := t.call, &t.domain.Limits, t.shards.env
	now := unixtime.At(env.Clock())
	from, known := limit.Network(c.Req.Client, l.Exempt)
	if t.heldUser {
		users.Done(c.Hash, &l.User, now)
	}
	if t.heldAddress && known {
		t.shards.Addresses.landed(from, &l.Address, now)
	}
	t.heldUser, t.heldAddress = false, false
	if !refused {
		return
	}
	secret := c.Key.Fingerprint()
	if users.Refused(c.Hash, secret, c.ID.String(), &l.User, now) {
		if held, ok := t.domain.UserLimitLog.Due(time.Now()); ok {
			env.Log.Warn("user limited: too many wrong passwords; those that the cache does not know are a temporary failure for a while",
				"domain", c.ID.Domain, "user", c.ID.User, "refusals", l.User.Refusals, "within", l.User.Window, "alike", held)
		}
	}
	if known && t.shards.Addresses.refused(from, secret, &l.Address, now) {
		if held, ok := t.domain.AddressLimitLog.Due(time.Now()); ok {
			env.Log.Warn("client address limited: too many wrong passwords; those that the cache does not know are a temporary failure for a while",
				"domain", c.ID.Domain, "client", from.String(), "refusals", l.Address.Refusals, "within", l.Address.Window, "alike", held)
		}
	}
}
