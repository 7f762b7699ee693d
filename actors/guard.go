package actors

import (
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
)

// request is a message that someone waits for. Whoever cannot handle it fails it;
// Fail may be called any number of times, by anyone, and never blocks.
type request interface {
	Fail(auth.Source)
}

// continuation is a request whose first part is done: the rest of the work, such as a
// backend's answer to be remembered, is not to be lost. It passes full and suspended
// mailboxes (its number is bounded by that of the requests admitted), and Fail may post
// it again after a panic.
type continuation interface {
	request
	continues()
}

// mailbox wraps the library's unbounded mailbox with what it lacks: a bound that
// answers, an answer for requests that meet a suspended or stopped actor, and an
// answer for the request that a panic would swallow (ACTORS section 2).
type mailbox struct {
	actor.Mailbox
	invoker actor.MessageInvoker
	stats   *actorStats
	limit   int32

	queued    atomic.Int32
	suspended atomic.Bool
	stopped   atomic.Bool

	ready atomic.Bool
	mu    sync.Mutex
	early []any // what came before Start
}

// actorStats outlives restarts of its actor; SIGUSR1 prints it.
type actorStats struct {
	name     string
	log      *slog.Logger
	box      atomic.Pointer[mailbox]
	restarts atomic.Int64
	all      *atomic.Int64 // restarts of the whole system
}

var (
	_ actor.Mailbox        = (*mailbox)(nil)
	_ actor.MessageInvoker = (*mailbox)(nil)
)

// guarded returns a producer of mailboxes that hold at most limit user messages.
func guarded(limit int, stats *actorStats) actor.MailboxProducer {
	inner := actor.Unbounded()
	return func() actor.Mailbox {
		m := &mailbox{Mailbox: inner(), limit: int32(limit), stats: stats}
		stats.box.Store(m)
		return m
	}
}

// PostUserMessage admits, or fails at once, a message.
func (m *mailbox) PostUserMessage(message any) {
	if r, ok := unwrap(message).(request); ok {
		_, must := r.(continuation)
		switch {
		case m.stopped.Load():
			r.Fail(auth.SourceStopping)
			return
		case must:
		case m.suspended.Load():
			r.Fail(auth.SourcePanic)
			return
		case m.queued.Load() >= m.limit:
			r.Fail(auth.SourceOverload)
			return
		}
	}
	m.queued.Add(1)
	if !m.ready.Load() && m.hold(message) {
		return
	}
	m.Mailbox.PostUserMessage(message)
}

// hold keeps a message for an actor that is being spawned: the library lets its name be found
// before the mailbox has a dispatcher and before Started is in it.
func (m *mailbox) hold(message any) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ready.Load() {
		return false
	}
	m.early = append(m.early, message)
	return true
}

// Start is called by the library when the actor is ready, and lets in what came before.
func (m *mailbox) Start() {
	m.Mailbox.Start()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, message := range m.early {
		m.Mailbox.PostUserMessage(message)
	}
	m.early = nil
	m.ready.Store(true)
}

// PostSystemMessage watches the library suspend and resume the actor.
func (m *mailbox) PostSystemMessage(message any) {
	switch message.(type) {
	case *actor.SuspendMailbox:
		m.suspended.Store(true)
	case *actor.ResumeMailbox:
		m.suspended.Store(false)
	}
	m.Mailbox.PostSystemMessage(message)
}

// RegisterHandlers puts the guard between the mailbox and the actor.
func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, d actor.Dispatcher) {
	m.invoker = invoker
	m.Mailbox.RegisterHandlers(m, d)
}

// InvokeUserMessage hands a message to the actor, and answers the request in it if the
// actor panics; the panic goes on to the supervisor.
func (m *mailbox) InvokeUserMessage(message any) {
	m.queued.Add(-1)
	r, ok := unwrap(message).(request)
	if ok && m.stopped.Load() {
		r.Fail(auth.SourceStopping)
		return
	}
	defer func() {
		if reason := recover(); reason != nil {
			if ok {
				r.Fail(auth.SourcePanic)
			}
			m.stats.panicked(reason)
			panic(reason)
		}
	}()
	m.invoker.InvokeUserMessage(message)
}

// InvokeSystemMessage sees the stop, after which the rest of the queue is failed.
func (m *mailbox) InvokeSystemMessage(message any) {
	if _, ok := message.(*actor.Stop); ok {
		m.stopped.Store(true)
		defer func() {
			// A suspended queue would never be popped again.
			m.suspended.Store(false)
			m.Mailbox.PostSystemMessage(&actor.ResumeMailbox{})
		}()
	}
	if _, ok := message.(*actor.Restart); ok {
		m.stats.restarts.Add(1)
		m.stats.all.Add(1)
	}
	defer func() {
		if reason := recover(); reason != nil {
			m.stats.panicked(reason)
			panic(reason)
		}
	}()
	m.invoker.InvokeSystemMessage(message)
}

// EscalateFailure implements actor.MessageInvoker.
func (m *mailbox) EscalateFailure(reason, message any) {
	// The message may hold a secret and is of no use to the supervisor.
	m.invoker.EscalateFailure(reason, nil)
}

// panicked logs a panic with its stack, but never its value as a whole: a value may
// quote a message. Runtime errors carry no data of ours and are shown.
func (s *actorStats) panicked(reason any) {
	s.log.Error("actor panicked and will be restarted", "actor", s.name,
		"panic", panicText(reason), "stack", string(debug.Stack()))
}

func unwrap(message any) any {
	if e, ok := message.(*actor.MessageEnvelope); ok {
		return e.Message
	}
	return message
}
