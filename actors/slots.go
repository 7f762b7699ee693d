package actors

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/limit"
)

// Why a question did not reach its backend.
var (
	errNoSlot  = errors.New("no slot became free in time: the backend is slower than its users ask")
	errBreaker = errors.New("the backend did not answer several times and is left alone for a while")
)

// expireEvery is how often a backend's queue is looked through for questions that have
// waited too long.
const expireEvery = 25 * time.Millisecond

// backendRef is a backend as the rest of the broker sees it. It outlives restarts of its
// actor.
type backendRef struct {
	lease   // held by parameters of domains
	name    string
	backend backend.Backend
	slots   int32
	queue   int
	breaker backend.BreakerOptions
	rules   limit.BudgetRules
	// maxDelay is the longest time by which the backend may slow logins from here down; 0: any.
	maxDelay time.Duration

	pid     *actor.PID
	broker  *Broker
	log     *slog.Logger
	running atomic.Int32 // slots in use, also across a restart
	waiting []*ask       // for a slot; for the actor's goroutine only
	looks   atomic.Int32 // questions about itself under way

	asked    asked
	withheld atomic.Int64 // questions that were not put for want of a budget
	delay    atomic.Int64 // by which it slowed logins from here down when last asked
	outages  nag
	faults   nag
}

func (r *backendRef) send(message any) { r.broker.sys.Root.Send(r.pid, message) }

// slots is the actor of one backend: it admits as many questions as there are slots, lets a
// few wait, and asks none while the breaker is open. It never waits itself.
type slots struct {
	*backendRef
	state   *backend.Breaker
	purse   *purse
	ticking bool
}

// Receive implements actor.Actor.
func (s *slots) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.abandon() // whom the one before did not come to
		s.state = backend.NewBreaker(s.breaker)
		s.asked.open.Store(false)
		s.purse = newPurse(s.backendRef)
	case *ask:
		s.onAsk(m)
	case *slotDone:
		s.onDone(m)
	case *looked:
		s.onLooked(m)
	case *limitOp[*purse]:
		m.run(s.purse)
	case *tick:
		s.onTick()
	case *actor.Restarting, *actor.Stopping, *actor.Stopped:
		s.abandon()
	}
	s.asked.waiting.Store(int32(len(s.waiting)))
}

// abandon fails the questions that wait.
func (s *slots) abandon() {
	failAll(s.waiting, auth.SourcePanic)
	s.waiting = nil
}

func (s *slots) onAsk(a *ask) {
	switch {
	case !time.Now().Before(a.deadline): // others took its time; a question that fails for that would be held against this backend
		a.finish(backend.Result{Class: backend.Outage, Err: errNoSlot}, auth.SourceDeadline, false)
	case a.quiet != nil && s.running.Load() > s.slots/2:
		a.Fail(auth.SourceOverload)
	case s.running.Load() < s.slots && s.admits(a):
	case len(s.waiting) >= s.queue:
		a.Fail(auth.SourceOverload)
	default:
		a.call.Trace.Add(s.name, "waiting for a slot")
		s.waiting = append(s.waiting, a)
		s.arm()
	}
}

// admits asks the backend, or answers in its place. It is false for a question that is to wait
// because of others that are under way.
func (s *slots) admits(a *ask) bool {
	switch s.purse.allows(a) {
	case limit.Wait:
		return false
	case limit.Blocked:
		a.call.Trace.Add(s.name, errWithheld.Error())
		a.finish(backend.Result{Class: backend.Outage, Err: errWithheld}, auth.SourceLimitBudget, false)
	default:
		s.start(a)
	}
	return true
}

// start asks the backend, unless its breaker is open.
func (s *slots) start(a *ask) {
	if !s.state.Allow(time.Now()) {
		if a.counted {
			s.purse.budget.Done()
		}
		a.finish(backend.Result{Class: backend.Outage, Err: errBreaker}, auth.SourceBackend, false)
		return
	}
	s.running.Add(1)
	ref := s.backendRef
	s.broker.sys.pool.Schedule(func() { ref.run(a) })
}

// run is one question, on a goroutine of its own.
func (r *backendRef) run(a *ask) {
	begun := time.Now()
	source := auth.SourceBackend
	result := backend.Result{Class: backend.Outage, Err: errors.New("the backend's code panicked")}
	defer func() {
		if reason := recover(); reason != nil {
			r.log.Error("backend panicked", "backend", r.name, "panic", panicText(reason))
		}
		r.running.Add(-1)
		r.report(a, result, time.Since(begun))
		class := result.Class
		if ownFault(result.Err) || a.quiet != nil {
			class = backend.Unsupported // our own fault, or no login asked: that tells nothing of the backend
		}
		r.send(&slotDone{class: class, attempts: result.Attempts, login: a.query.Op == auth.OpAuth,
			counted: a.counted, user: a.call.hash, secret: a.call.Key.Fingerprint()})
		a.finish(result, source, false)
	}()
	ctx, cancel := context.WithDeadline(r.broker.ctx, a.deadline)
	defer cancel()
	result = r.backend.Ask(ctx, a.query)
	if result.Class == backend.Outage && !time.Now().Before(a.deadline) { // the backend may be ahead of ctx's timer
		source = auth.SourceDeadline
	}
}

// report counts a backend's answer, and logs what an administrator must see of it.
func (r *backendRef) report(a *ask, result backend.Result, took time.Duration) {
	if a.quiet != nil {
		return
	}
	r.asked.note(result.Class, took)
	if a.call.Trace != nil {
		note := result.Class.String() + " in " + took.Round(time.Microsecond).String()
		if result.Err != nil {
			note += ": " + result.Err.Error()
		}
		a.call.Trace.Add(r.name, note)
	}
	switch result.Class {
	case backend.Misconfigured:
		if held, ok := r.faults.due(time.Now()); ok {
			r.log.Error("backend is misconfigured", "backend", r.name, "domain", a.query.Domain, "err", result.Err, "alike", held)
		}
	case backend.Outage, backend.Throttled:
		if held, ok := r.outages.due(time.Now()); ok {
			r.log.Warn("backend cannot answer", "backend", r.name, "class", result.Class.String(), "took", took, "err", result.Err, "alike", held)
		}
	}
}

func (s *slots) onDone(d *slotDone) {
	s.tell(d.class)
	s.purse.settle(d)
	s.next()
}

// tell reports a class to the breaker, and a change of the breaker to the log.
func (s *slots) tell(class backend.Class) {
	was := s.state.Open()
	s.state.Report(class, time.Now())
	if open := s.state.Open(); open != was {
		s.asked.open.Store(open)
		s.log.Warn("breaker changed", "backend", s.name, "open", open)
	}
}

// onLooked leaves a backend alone that slows logins from here down for too long.
func (s *slots) onLooked(l *looked) {
	if s.purse.onLooked(l) {
		s.tell(backend.Throttled)
	}
	s.next()
}

// next gives free slots to those who wait.
func (s *slots) next() {
	kept := s.waiting[:0]
	waits := false // for the budget
	for i, a := range s.waiting {
		if s.running.Load() >= s.slots {
			kept = append(kept, s.waiting[i:]...)
			break
		}
		switch {
		case a.call.Done(): // nobody waits for it any more
			a.finish(backend.Result{Class: backend.Outage, Err: errNoSlot}, auth.SourceDeadline, true)
		case waits && a.unproven(): // whatever the password: not even looked at, there may be many
			kept = append(kept, a)
		case !s.admits(a):
			kept = append(kept, a)
			waits = true
		}
	}
	clear(s.waiting[len(kept):])
	if s.waiting = kept; len(kept) == 0 {
		s.waiting = nil
	}
}

// onTick ends what has waited until its deadline, early enough for the cache to serve in
// grace.
func (s *slots) onTick() {
	s.ticking = false
	now := time.Now()
	kept := s.waiting[:0]
	for _, a := range s.waiting {
		if now.Before(a.deadline) {
			kept = append(kept, a)
			continue
		}
		a.finish(backend.Result{Class: backend.Outage, Err: errNoSlot}, auth.SourceDeadline, false)
	}
	clear(s.waiting[len(kept):])
	s.waiting = kept
	s.next()
	s.arm()
}

func (s *slots) arm() {
	if s.ticking || len(s.waiting) == 0 {
		return
	}
	s.ticking = true
	ref := s.backendRef
	time.AfterFunc(expireEvery, func() { ref.send(tickMessage) })
}
