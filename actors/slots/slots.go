// Package slots bounds what a backend is asked at once. Each backend has one actor: it admits as
// many questions as there are slots, fewer while the backend is slow (backend.Pace), asks none while the
// circuit breaker is open (backend.Breaker), and limits how many wrong passwords reach the backend, for
// an account and in all (internal/limit): the questions of all domains pass here. Others wait, domains
// in turn, if they can be answered within their deadlines; the rest is refused at once. A secret that
// means nothing to the backend is answered without any of that (backend.Screener). The questions
// themselves run on goroutines of the actor system's pool, so the actor never waits.
package slots

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/limit"
	"postern/internal/unixtime"
)

// Why a question did not reach its backend.
var (
	errNoSlot  = errors.New("no slot became free in time: the backend is slower than its users ask")
	errSlowed  = errors.New("the backend slows logins from here by more than max_delay")
	errPanic   = errors.New("the backend's code panicked")
	errAbsent  = errors.New("there is no such user; that was asked first, since wrong passwords use up what the backend bears")
	errBreaker = errors.New("the backend did not answer several times and is left alone")
)

// expireEvery is how often a backend's queue is searched for questions past their deadline.
const expireEvery = 25 * time.Millisecond

// mailboxLimit bounds the mailbox of a backend's actor: a burst passes it on its way to the queue for
// a slot.
const mailboxLimit = 65536

// Question is put to a backend. It is answered exactly once, by a call of Reply.
type Question struct {
	Query    backend.Query
	Deadline time.Time

	// Known says that the backend has accepted this secret before, so that no refusal is likely.
	Known bool
	// Background marks a question that no login waits for. It yields to those of logins, and
	// its outcome counts neither for the breaker nor in the log.
	Background bool
	// ID is the user as asked, for the log.
	ID auth.Identity
	// Client is the address of the client, for the audit log; it may be empty.
	Client string
	// Block is the name of the domain block; the blocks take turns at the slots.
	Block string
	// Guess is what the limits of the account go by. The actor sets its Account.
	Guess limit.Guess

	// Reply takes the answer, on any goroutine, and must not block.
	Reply func(Reply)
	// Abandoned, if set, reports whether the answer is of no use any more.
	Abandoned func() bool
	// Trace, if set, records a step for `postern test`.
	Trace func(stage, note string)

	token     bool  // the secret is a bearer token; see backend.Screening
	offline   bool  // likewise
	local     bool  // likewise
	alongside int32 // questions under way when it was put to the backend, itself included
	counted   bool  // in the budget, as under way
	guessed   bool  // in the limits of the account, likewise
	looked    bool  // whether the account exists was asked
	waited    bool  // for a slot
	place           // where it waits
	answered  atomic.Bool
}

// Reply is what came of a question.
type Reply struct {
	Result backend.Result
	Source auth.Source // of a verdict that is unavailable
	Busy   bool        // the backend was not asked, since too many others wait

	// Limited is until when the account is limited at least; 0 if it is not. Then a question is
	// better put before a hash is compared.
	Limited unixtime.Time
	// NoCompare: the backend was not asked, and too many hashes were compared for the account.
	NoCompare bool
}

var _ supervise.Request = (*Question)(nil)

// SourceOf returns the source of an answer that the actor system could not bring about.
func SourceOf(why supervise.Reason) auth.Source {
	switch why {
	case supervise.Panicked:
		return auth.SourcePanic
	case supervise.Overloaded:
		return auth.SourceOverload
	}
	return auth.SourceStopping
}

// Fail implements supervise.Request: a backend that cannot take the question is an outage to the
// cache, which may still serve.
func (q *Question) Fail(why supervise.Reason) { q.busy(SourceOf(why)) }

// reply answers the question, unless that is done: an actor that panics fails what it may have
// answered a moment before.
func (q *Question) reply(r Reply) {
	if q.answered.CompareAndSwap(false, true) {
		q.Reply(r)
	}
}

func (q *Question) busy(source auth.Source) {
	q.reply(Reply{Result: backend.Result{Class: backend.Outage}, Source: source, Busy: true})
}

// outage answers that the backend was not asked, and why.
func (q *Question) outage(err error, source auth.Source) {
	q.reply(Reply{Result: backend.Result{Class: backend.Outage, Err: err}, Source: source})
}

// absent answers that there is no such account, without a password having been tried.
func (q *Question) absent() {
	q.trace("limit", errAbsent.Error())
	q.reply(Reply{Result: backend.Result{Class: backend.Refused, Absent: true, Err: errAbsent}, Source: auth.SourceBackend})
}

func (q *Question) trace(stage, note string) {
	if q.Trace != nil {
		q.Trace(stage, note)
	}
}

// unproven reports whether the question may come to a refusal that counts against this address.
func (q *Question) unproven() bool { return q.guesses() && !q.Known }

// guesses reports whether the backend compares a password that the peer may have guessed, or is to be spared the
// refusal of a token.
func (q *Question) guesses() bool {
	return !q.offline && (q.Query.Op == auth.OpAuth || q.Query.Op == auth.OpRemoveUser3)
}

// account is the account of a question for the breaker: by its name alone, since a domain may have
// several names at one backend.
func (q *Question) account() string { return auth.FoldUser(q.Query.User) }

// Backend is a backend with its slots, as the other actors see it. It outlives restarts of its
// actor. It is in use as long as a domain holds its RefCount, and closed at the end.
type Backend struct {
	*supervise.RefCount
	Name  string // backend.KIND.NAME
	Block config.Backend
	Ref   *supervise.Ref
	slots int32
	queue int

	env     env.Env
	backend backend.Backend
	seed    limit.Seed
	breaker backend.BreakerOptions
	rules   limit.BudgetRules
	// maxDelay is the longest time by which the backend may slow logins from here; 0: any.
	maxDelay time.Duration

	running atomic.Int32 // slots in use, also across a restart
	most    atomic.Int32 // slots that may be in use now
	probes  atomic.Int32 // questions about itself under way
	waiting *queue       // for a slot; only the actor's goroutine touches it

	counts   counts
	forecast forecast
	withheld atomic.Int64 // questions that were not put for want of a budget
	delay    atomic.Int64 // by which it slowed logins from here when last asked
	outages  causes
	faults   supervise.LogThrottle
	guesses  supervise.LogThrottle
}

// New starts the actor of a backend. ended is called when the last holder of the Backend has released
// it: its Close is then due.
func New(e env.Env, cfg config.Backend, be backend.Backend, ended func(*Backend)) (*Backend, error) {
	b := &Backend{
		Name: e.System.ReserveName("backend." + cfg.BackendRef.String()), Block: cfg, env: e, backend: be, seed: limit.NewSeed(), waiting: newQueue(),
		slots: int32(cfg.Slots), queue: cfg.Queue, maxDelay: cfg.MaxDelay,
		breaker: backend.BreakerOptions{Failures: cfg.BreakerFailures, Cooldown: cfg.BreakerCooldown, Jitter: rand.Float64},
		rules:   limit.BudgetRules{Refusals: cfg.RefusalBudget, Window: cfg.RefusalWindow},
	}
	b.most.Store(b.slots)
	b.counts.init(cfg.BackendRef.String())
	b.forecast.init()
	b.RefCount = supervise.NewRefCount(func() { ended(b) })
	var err error
	b.Ref, err = e.System.Spawn(b.Name, mailboxLimit, func(*supervise.Ref) actor.Actor { return &slots{Backend: b} })
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", cfg.BackendRef, err)
	}
	return b, nil
}

// Close stops the actor, waits at most timeout for questions under way, and closes the backend.
func (b *Backend) Close(timeout time.Duration) {
	b.Ref.Stop()
	<-b.Ref.Stopped()
	// A question takes a moment to end with its context, and Close must not run beside it.
	for end := time.Now().Add(timeout); b.running.Load()+b.probes.Load() > 0 && time.Now().Before(end); {
		time.Sleep(closePoll)
	}
	if err := b.backend.Close(); err != nil {
		b.env.Log.Warn("backend could not be closed", "backend", b.Name, "err", err)
	}
}

const closePoll = 5 * time.Millisecond

// HasDomain reports whether the backend has accounts of a domain; false for a kind that does not
// know. With an error it cannot be found out now.
func (b *Backend) HasDomain(domain string) (bool, error) {
	if d, ok := b.backend.(backend.Domains); ok {
		return d.HasDomain(domain)
	}
	return false, nil
}

// Screen returns what the backend says of a question without asking anything; see backend.Screener.
func (b *Backend) Screen(q backend.Query) (v backend.Screening) {
	if s, ok := b.backend.(backend.Screener); ok {
		v = s.Screen(q)
	}
	return v
}

// Keyless returns how many users of a domain have no SCRAM keys. With an error it cannot be found out, or the
// backend has no keys at all.
func (b *Backend) Keyless(domain string) (int, error) {
	if k, ok := b.backend.(backend.Keyed); ok {
		return k.Keyless(domain)
	}
	return 0, fmt.Errorf("%s: %w", b.Name, errKeyless)
}

// errKeyless is why SCRAM cannot be offered for a backend.
var errKeyless = errors.New("the backend keeps no SCRAM keys")

// ErrNoList is wrapped when a backend cannot list its users.
var ErrNoList = errors.New("the backend cannot list its users")

// Users lists the users of a domain. It takes no slot: an administrator asks for that, seldom.
func (b *Backend) Users(ctx context.Context, domain string) ([]string, error) {
	l, ok := b.backend.(backend.Lister)
	if !ok {
		return nil, fmt.Errorf("%s: %w", b.Name, ErrNoList)
	}
	b.probes.Add(1)
	defer b.probes.Add(-1)
	names, err := l.Users(ctx, domain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.Name, err)
	}
	return names, nil
}

// String describes the backend's slots in one line, for the log of SIGUSR1.
func (b *Backend) String() string {
	return fmt.Sprintf("%s slots=%d/%d of %d withheld=%d slowed=%v", b.Name, b.running.Load(), b.most.Load(), b.slots,
		b.withheld.Load(), time.Duration(b.delay.Load()))
}

// ask runs one question, on a goroutine of its own.
func (b *Backend) ask(q *Question) {
	begun := time.Now()
	source := auth.SourceBackend
	result := backend.Result{Class: backend.Outage, OneAccount: true, Err: errPanic}
	defer func() {
		if reason := recover(); reason != nil {
			b.env.Log.Error("backend panicked", "backend", b.Name, "panic", supervise.PanicText(reason))
		}
		took := time.Since(begun)
		b.running.Add(-1)
		b.report(q, result, took)
		class := result.Class
		if passhash.NotDone(result.Err) || q.Background || q.local {
			class = backend.Unsupported // says nothing of the backend: the fault is postern's, no login asked, or it was not needed
		}
		account := ""
		if result.OneAccount {
			account = q.account()
		}
		b.Ref.Send(&slotDone{q: q, class: class, account: account, begun: begun, took: took, reply: Reply{Result: result, Source: source}})
	}()
	ctx, cancel := context.WithDeadline(b.env.Context, q.Deadline)
	defer cancel()
	result = b.backend.Ask(ctx, q.Query)
	if result.Class == backend.Outage && !time.Now().Before(q.Deadline) { // the backend may be ahead of ctx's timer
		source = auth.SourceDeadline
	}
}

// report counts a backend's answer, and logs what an administrator must see of it.
func (b *Backend) report(q *Question, result backend.Result, took time.Duration) {
	if q.Background {
		return
	}
	b.counts.note(result.Class, took)
	if q.Trace != nil {
		note := result.Class.String() + " in " + took.Round(time.Microsecond).String()
		if result.Err != nil {
			note += ": " + result.Err.Error()
		}
		q.Trace(b.Name, note)
	}
	switch result.Class {
	case backend.Misconfigured:
		if held, ok := b.faults.Due(time.Now()); ok {
			b.env.Log.Error("backend is misconfigured", "backend", b.Name, "domain", q.Query.Domain, "err", result.Err, "alike", held)
		}
	case backend.Outage, backend.Throttled:
		if held, ok := b.outages.due(result.Err, time.Now()); ok {
			b.env.Log.Warn("backend cannot answer", "backend", b.Name, "class", result.Class.String(), "took", took, "err", result.Err, "alike", held)
		}
	}
}

// slotDone reports to a backend's actor that a slot is free again. The actor passes the reply on, with
// what it knows of the account's limits.
type slotDone struct {
	q       *Question
	class   backend.Class // for the breaker
	account string        // the failure may be of it alone; empty: of the backend
	begun   time.Time
	took    time.Duration
	reply   Reply
}

var _ supervise.Continuation = (*slotDone)(nil)

// Continues implements supervise.Continuation.
func (*slotDone) Continues() {}

// Fail implements supervise.Request: what the backend has answered must be known, whatever becomes of
// its actor.
func (d *slotDone) Fail(supervise.Reason) { d.q.reply(d.reply) }

// expire is the message of the queue's timer.
type expire struct{}

// slots is the actor of one backend.
type slots struct {
	*Backend
	state  *backend.Breaker
	cause  error // of the last failure; nil: there was none since the breaker was closed
	pace   *backend.Pace
	limits *limits
	late   int // for how many expireEvery some of those that wait would come much too late
	armed  bool
}

// Receive implements actor.Actor.
func (s *slots) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.abandon() // those that waited before a restart of the actor
		s.state, s.cause = backend.NewBreaker(s.breaker), nil
		s.counts.open.Store(false)
		s.counts.show(Health{Since: time.Now()})
		s.pace = backend.NewPace(backend.PaceOptions{Ceiling: int(s.slots), Floor: s.Block.MinSlots})
		s.limits = newLimits(s.Backend)
	case *Question:
		s.onQuestion(m)
	case *slotDone:
		s.onDone(m)
	case *lookedUp:
		s.onLookedUp(m)
		s.next()
	case *throttleProbe:
		s.onThrottleProbe(m)
	case *supervise.Op[*limits]:
		m.Run(s.limits)
	case *expire:
		s.onExpire()
	case *actor.Restarting, *actor.Stopping, *actor.Stopped:
		s.abandon()
	}
	s.publish()
}

// publish shows other goroutines how the backend stands.
func (s *slots) publish() {
	s.counts.waiting.Store(int32(s.waiting.size()))
	s.most.Store(int32(s.pace.Limit()))
	wait := s.pace.Service()
	width, strained := s.limits.room(s.pace.Limit())
	if n := s.waiting.size(); n > 0 || int(s.running.Load()) >= width {
		wait = s.pace.Expect(n, width)
	}
	s.forecast.set(wait, s.pace.Service(), strained)
}

// free reports whether another question may be put to the backend.
func (s *slots) free() bool { return int(s.running.Load()) < s.pace.Limit() }

// abandon fails the questions that wait.
func (s *slots) abandon() {
	all := s.waiting.ends
	*s.waiting = *newQueue()
	supervise.FailAll(all, supervise.Panicked)
}

func (s *slots) onQuestion(q *Question) {
	if s.screened(q) {
		return
	}
	s.limits.prepare(q)
	now := time.Now()
	switch {
	case !now.Before(q.Deadline): // spent elsewhere: an outage after asking would be held against this backend
		q.outage(errNoSlot, auth.SourceDeadline)
	case q.Background && int(s.running.Load()) > s.pace.Limit()/2:
		q.busy(auth.SourceOverload)
	case s.free() && s.waiting.ready.size == 0 && s.admits(q):
	case !s.fits(q, now):
		q.busy(auth.SourceOverload)
	default:
		q.trace(s.Name, "waiting for a slot")
		s.wait(q)
	}
}

// screened reports whether a question is answered, since the backend has nothing to do with its secret.
func (s *slots) screened(q *Question) bool {
	v := s.Screen(q.Query)
	q.token, q.offline, q.local = v.Token, v.Offline, v.Local
	if v.Answer == nil {
		return false
	}
	if v.Answer.Err != nil {
		q.trace(s.Name, "not asked: "+v.Answer.Err.Error())
	}
	q.reply(Reply{Result: *v.Answer, Source: auth.SourceBackend})
	return true
}

// wait has a question wait, for what keeps it from being put.
func (s *slots) wait(q *Question) {
	q.waited = true
	bound := limit.Bound{}
	if s.free() {
		bound = s.limits.waitsFor(q)
	}
	if bound != (limit.Bound{}) {
		s.waiting.park(q, bound)
	} else {
		s.waiting.add(q)
	}
	s.arm()
}

// fits reports whether a question can wait: the time until its answer is within its deadline, with some
// to spare, and there is room, for which another one may have to go.
func (s *slots) fits(q *Question, now time.Time) bool {
	left, width := q.Deadline.Sub(now), s.pace.Limit()
	left -= left / spare
	ready := &s.waiting.ready
	before := ready.before(q.Block, ready.of(q.Block))
	if s.pace.Expect(before, width) > left {
		return false
	}
	if q.unproven() {
		if narrow, _ := s.limits.room(width); narrow < width {
			width = narrow
			if parked := s.waiting.parked[limit.Whole]; parked != nil {
				before += parked.before(q.Block, parked.of(q.Block))
			}
			if s.pace.Expect(before, width) > left {
				return false
			}
		}
		if s.crowded(q.Guess.From, width, left) {
			return false
		}
	}
	if s.waiting.size() < s.queue {
		return true
	}
	other := s.waiting.displaced(q.Block)
	if other != nil {
		s.drop(other)
		other.busy(auth.SourceOverload)
	}
	return other != nil
}

// spare is the part of a question's time that must be left over when it begins to wait. Without it the
// answers of an overloaded backend would come just before the deadlines, or just after them.
const spare = 16

// crowded reports whether one client's address has half of the queue for itself, by number or by time.
func (s *slots) crowded(from uint64, width int, left time.Duration) bool {
	n := s.waiting.from[from]
	return from != 0 && n > 0 && (n >= max(s.queue/2, 1) || s.pace.Turn(n, width) > left/2)
}

// admits asks the backend, or answers in its place. It is false for a question that has to wait
// because of others that are under way.
func (s *slots) admits(q *Question) bool {
	if s.limits.doubtful(q) {
		s.look(q)
		return true
	}
	switch d, why := s.limits.allows(q); d {
	case limit.Wait:
		return false
	case limit.Blocked:
		q.trace(s.Name, why.Result.Err.Error())
		q.reply(why)
	default:
		s.start(q)
	}
	return true
}

// start asks the backend, unless its breaker is open.
func (s *slots) start(q *Question) {
	if !q.local && !s.state.Allow(q.account(), time.Now()) {
		s.limits.withdraw(q)
		s.leftAlone(q)
		return
	}
	q.alongside = s.running.Add(1)
	b := s.Backend
	s.env.System.Go(func() { b.ask(q) })
}

// look asks whether the question's account exists.
func (s *slots) look(q *Question) {
	if q.looked = true; q.Guess.Absent {
		q.absent()
		return
	}
	if !s.state.Allow(q.account(), time.Now()) {
		s.leftAlone(q)
		return
	}
	q.alongside = s.running.Add(1)
	b := s.Backend
	s.env.System.Go(func() { b.lookUp(q) })
}

// lookedUp brings whether the account of a question exists.
type lookedUp struct {
	q      *Question
	begun  time.Time
	took   time.Duration
	result backend.Result
}

var _ supervise.Request = (*lookedUp)(nil)

// Fail implements supervise.Request.
func (l *lookedUp) Fail(why supervise.Reason) { l.q.Fail(why) }

func (b *Backend) lookUp(q *Question) {
	begun := time.Now()
	l := &lookedUp{q: q, begun: begun, result: backend.Result{Class: backend.Outage, OneAccount: true, Err: errPanic}}
	defer func() {
		if reason := recover(); reason != nil {
			b.env.Log.Error("backend panicked", "backend", b.Name, "panic", supervise.PanicText(reason))
		}
		l.took = time.Since(begun)
		b.running.Add(-1)
		b.report(q, l.result, l.took)
		b.Ref.Send(l)
	}()
	ctx, cancel := context.WithDeadline(b.env.Context, q.Deadline)
	defer cancel()
	exists := q.Query
	exists.Op, exists.Secret = auth.OpIsUser, auth.Secret{}
	l.result = b.backend.Ask(ctx, exists)
}

// onLookedUp refuses an account that does not exist, and otherwise goes on with the question.
func (s *slots) onLookedUp(l *lookedUp) {
	q, account := l.q, ""
	if l.result.OneAccount {
		account = q.account()
	}
	s.time(auth.OpIsUser, l.result.Class, l.result, l.begun, l.took, q.alongside)
	s.reportClass(l.result.Class, account, l.result.Err)
	switch {
	case l.result.Class == backend.Refused && l.result.Absent:
		q.absent()
		return
	case l.result.Class == backend.Accepted:
		q.Guess.Stranger = false
	}
	s.onQuestion(q)
}

func (s *slots) onDone(d *slotDone) {
	if d.q.waited && d.reply.Source == auth.SourceDeadline && d.took < ample(s.pace.Service()) && s.forecast.answeredSince(d.begun) {
		d.class = backend.Unsupported // says nothing of the backend: little time was left to the question
	}
	s.time(d.q.Query.Op, d.class, d.reply.Result, d.begun, d.took, d.q.alongside)
	s.reportClass(d.class, d.account, d.reply.Result.Err)
	d.reply.Limited = s.limits.settle(d.q, d.class, &d.reply.Result)
	d.q.reply(d.reply)
	if d.q.counted {
		for _, bound := range s.limits.refusals.Bounds(&d.q.Guess) {
			s.waiting.wake(bound)
		}
	}
	s.next()
}

// time gives the time of an answer to the pace.
func (s *slots) time(op auth.Operation, class backend.Class, r backend.Result, begun time.Time, took time.Duration, alongside int32) {
	t := backend.Timing{Op: op, Class: class, Begun: begun, Took: took, Delay: s.limits.slowed(), Alongside: int(alongside)}
	if r.Attempts > 0 { // each was refused and slows down the next
		t.Delay = -1
	}
	s.pace.Report(t, time.Now())
	s.forecast.note(class, begun)
}

// reportClass gives a class to the breaker, and logs a change of the breaker.
func (s *slots) reportClass(class backend.Class, account string, cause error) {
	was, since, now := s.state.Open(), s.state.Since(), time.Now()
	s.state.Report(class, account, now)
	health := s.Health()
	if class == backend.Outage || class == backend.Throttled {
		if s.cause = cause; cause == nil {
			cause = errUnknown
		}
		health.Cause, health.Failed = cause, now
		s.counts.show(health)
	}
	switch open := s.state.Open(); {
	case open == was:
		return
	case open:
		s.env.Log.Warn("breaker changed", "backend", s.Name, "open", true, "class", class.String(), "err", cause)
	default:
		s.pace.Resume(int(s.running.Load()), now)
		s.env.Log.Warn("breaker changed", "backend", s.Name, "open", false, "after", now.Sub(since).Round(time.Millisecond), "last_err", s.cause)
		s.cause, health.Cause = nil, nil
		s.outages.clear()
	}
	s.counts.open.Store(s.state.Open())
	health.Open, health.Since = s.state.Open(), now
	s.counts.show(health)
}

// onThrottleProbe has the breaker open for a backend that slows logins from here for too long.
func (s *slots) onThrottleProbe(p *throttleProbe) {
	if s.limits.onThrottleProbe(p) {
		s.reportClass(backend.Throttled, "", errSlowed)
	}
	s.next()
}

// next gives free slots to the questions that wait.
func (s *slots) next() {
	for s.free() {
		q := s.waiting.pop()
		if q == nil {
			return
		}
		bound := q.bound
		switch {
		case q.Abandoned != nil && q.Abandoned():
			q.reply(Reply{Result: backend.Result{Class: backend.Outage, Err: errNoSlot}, Source: auth.SourceDeadline, Busy: true})
		case time.Until(q.Deadline) < s.pace.Service(): // its answer would come too late
			q.outage(errNoSlot, auth.SourceDeadline)
		case !s.admits(q):
			if s.waiting.park(q, s.limits.waitsFor(q)); q.bound == bound {
				continue
			}
		case q.counted:
			continue
		}
		if bound != (limit.Bound{}) { // it has not taken the room that it was given
			s.waiting.wake(bound)
		}
	}
}

// onExpire ends what has waited until its deadline, early enough for the cache to serve in grace, and
// what can no longer be answered in time since the backend has become slower.
func (s *slots) onExpire() {
	s.armed = false
	now := time.Now()
	for s.waiting.size() > 0 && !now.Before(s.waiting.ends[0].Deadline) {
		q := s.waiting.ends[0]
		s.drop(q)
		q.outage(errNoSlot, auth.SourceDeadline)
	}
	s.shed(now)
	if s.free() {
		s.waiting.wakeSome() // refusals may have become old
	}
	s.next()
	s.arm()
}

// drop takes a question out of the queue without putting it: the room in the budget that it has waited for
// is for another one.
func (s *slots) drop(q *Question) {
	given := q.in == &s.waiting.ready && q.bound != (limit.Bound{})
	s.waiting.remove(q)
	if given {
		s.waiting.wake(q.bound)
	}
}

// shed refuses the last questions of each block as long as they would come much too late, even if a
// slot became free now, if that has been so for a while: a backend that stops for a moment is no reason.
func (s *slots) shed(now time.Time) {
	ready, width := &s.waiting.ready, s.pace.Limit()
	if len(ready.lines) > shedLines {
		return
	}
	late := false
	for _, l := range ready.lines {
		for n := l.questions.Len(); n > 0; n-- {
			q := l.questions.Back().Value.(*Question)
			if s.pace.Expect(ready.before(l.block, n-1)-1, width) <= q.Deadline.Sub(now)*shedAt/100 {
				break
			}
			if late = true; s.late < shedAfter {
				break
			}
			s.drop(q)
			q.busy(auth.SourceOverload)
		}
	}
	if !late {
		s.late = 0
	} else if s.late < shedAfter {
		s.late++
	}
}

const (
	// shedAt is how much of its time a question must be expected to need before it is refused after
	// all, in percent: the estimate varies.
	shedAt = 125
	// shedAfter is for how many expireEvery that must be so.
	shedAfter = 40
	// shedLines bounds the work: with more blocks, questions wait until their turn or their deadline.
	shedLines = 256
)

func (s *slots) arm() {
	if s.armed || s.waiting.size() == 0 {
		return
	}
	s.armed = true
	ref := s.Ref
	time.AfterFunc(expireEvery, func() { ref.Send(&expire{}) })
}
