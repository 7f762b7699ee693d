package actors

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"postern/internal/auth"
	"postern/internal/cache"
)

// States of a call's answer.
const (
	open uint32 = iota
	answering
	answered
)

// asker is who put a call: it is told, once, that the answer is there.
type asker interface {
	answered(*Call)
}

// Call is a request under way. It owns its answer: whoever calls Answer or Fail first
// decides, and later calls change nothing. It travels by pointer from actor to actor
// without envelope or future.
type Call struct {
	Req      auth.Request
	ID       auth.Identity
	Key      cache.Key // of ID and secret; zero for operations other than auth
	Received time.Time
	Deadline time.Time
	Trace    *Trace // nil but for `postern test`

	stage   uint8  // whose turn it is: see the stages
	counted bool   // in flight: a draining broker waits for it
	bar     bar    // of the limits, for a secret that the cache does not know
	held    uint8  // by the router's limits, as under way; for the router only
	hash    uint64 // of the user: chooses shard and token worker
	asker   asker
	broker  *Broker
	front   string
	domain  atomic.Pointer[domain] // held, from route until the answer

	state  atomic.Uint32
	answer auth.Answer
	took   time.Duration

	// Calls with the same question that wait for this one's answer: a stack that Answer
	// closes. next links a call into the stack of another.
	waiting atomic.Pointer[Call]
	next    *Call
}

// closedStack marks a stack of waiting calls that takes no more.
var closedStack = new(Call)

var _ request = (*Call)(nil)

// Answer ends the call and reports whether it was the first to do so. It never blocks and
// may be called from any goroutine.
func (c *Call) Answer(a auth.Answer) bool {
	if !c.state.CompareAndSwap(open, answering) {
		return false
	}
	c.answer = a
	c.took = time.Since(c.Received)
	c.state.Store(answered)
	c.letGo()
	waiter := c.waiting.Swap(closedStack)
	if c.asker != nil {
		c.asker.answered(c)
	}
	if a.Verdict == auth.Allow && c.broker != nil {
		c.broker.noteLogin(c)
	}
	for waiter != nil {
		w := waiter
		waiter, w.next = w.next, nil
		c.passOn(w)
	}
	return true
}

// passOn gives this call's answer to one that waited for it. A call that ran out of time
// knows nothing: one that has time left for a backend is asked again for itself, as is one from
// another address than that of which there is too much. The router has it as if it had just
// come, so that limits hold for it, too; since nobody waits for it, it may wait again.
func (c *Call) passOn(w *Call) {
	if c.answer.Source == auth.SourceDeadline && w.Deadline.After(c.Deadline) &&
		time.Until(w.Deadline) > 2*graceTime(w.Deadline.Sub(w.Received)) ||
		c.answer.Source == auth.SourceLimitAddress && w.Req.Client != c.Req.Client {
		if d := w.domain.Load(); d != nil { // nil: answered meanwhile
			w.stage = stageMissed
			w.broker.sys.Root.Send(d.router, w)
		}
		return
	}
	a := c.answer
	switch a.Source {
	case auth.SourceDeadline, auth.SourcePanic, auth.SourceOverload, auth.SourceStopping,
		auth.SourceLimitUser, auth.SourceLimitAddress, auth.SourceLimitBudget:
	default:
		a.Source = auth.SourceCoalesced
	}
	w.Trace.Add("coalesced", "an identical request was answered: "+a.Verdict.String())
	w.Answer(a)
}

// letGo releases the call's domain.
func (c *Call) letGo() {
	if d := c.domain.Swap(nil); d != nil {
		d.release()
	}
}

// moves makes another domain the one of a call that is handed on to it. It is false if the call
// has been answered, or the other has ended.
func (c *Call) moves(from, to *domain) bool {
	if !to.join() {
		return false
	}
	if !c.domain.CompareAndSwap(from, to) {
		to.release()
		return false
	}
	from.release()
	return true
}

// Fail answers that nobody can tell, and why.
func (c *Call) Fail(why auth.Source) { c.Answer(auth.Answer{Source: why}) }

// Done reports whether the call has been answered.
func (c *Call) Done() bool { return c.state.Load() == answered }

// join makes w wait for c's answer. It is false once c has one.
func (c *Call) join(w *Call) bool {
	for {
		head := c.waiting.Load()
		if head == closedStack {
			return false
		}
		w.next = head
		if c.waiting.CompareAndSwap(head, w) {
			return true
		}
	}
}

// decisions is the part of a log for the lines of decisions that are alike but for whom they are
// about, so that what they have in common is written once.
func decisions(l *slog.Logger, front string, op auth.Operation, v auth.Verdict, s auth.Source) slog.Handler {
	return l.Handler().WithAttrs([]slog.Attr{
		slog.String("front", front),
		slog.String("op", op.String()),
		slog.String("verdict", v.String()),
		slog.String("source", s.String()),
	})
}

// log writes the one line of a decision.
func (c *Call) log(to slog.Handler) {
	level := slog.LevelInfo
	switch c.answer.Source {
	case auth.SourceOverload, auth.SourceDeadline, auth.SourcePanic:
		level = slog.LevelWarn
	}
	ctx := context.Background()
	if !to.Enabled(ctx, level) {
		return
	}
	// Not by a Logger, which looks up the caller's place in the source for every line.
	line := slog.NewRecord(c.Received.Add(c.took), level, "decision", 0)
	line.AddAttrs(slog.String("domain", c.ID.Domain), slog.String("user", c.ID.User), slog.Duration("took", c.took))
	if c.Req.Client != "" {
		line.AddAttrs(slog.String("client", c.Req.Client))
	}
	_ = to.Handle(ctx, line)
}
