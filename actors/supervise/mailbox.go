package supervise

import (
	"runtime"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// mailbox is an actor's queue, and the loop that has the actor handle it. In place of the
// library's it has a bound that answers, an answer for requests that meet a suspended or stopped
// actor and for the one that a panic would swallow, and it can be run by the sender's goroutine.
type mailbox struct {
	ref     *Ref
	limit   int
	invoker actor.MessageInvoker
	work    func(*Runner) // runMailbox, for the pool
	by      *Runner       // the one that runs it; for its goroutine only

	mu        sync.Mutex
	system    []any // lifecycle messages, handled first
	user      queue
	running   bool // a goroutine runs it or is about to; or it was not started yet
	suspended bool // after a panic, until the restart
	stopped   bool // nothing is taken any more
}

var _ actor.Mailbox = (*mailbox)(nil)

func (m *mailbox) init(r *Ref, limit int) {
	m.ref, m.limit = r, limit
	m.running = true // the library lets the name be found before Started is queued: Start ends this
	m.work = func(by *Runner) { by.runMailbox(m) }
}

// RegisterHandlers implements actor.Mailbox. The dispatcher is the system's own.
func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, _ actor.Dispatcher) {
	m.invoker = invoker
}

// Start implements actor.Mailbox: the library calls it when Started is queued.
func (m *mailbox) Start() { m.handOver() }

// handOver has a running mailbox run by the pool.
func (m *mailbox) handOver() { m.ref.system.pool.schedule(m.work) }

// UserMessageCount implements actor.Mailbox.
func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.user.len()
}

// PostUserMessage implements actor.Mailbox.
func (m *mailbox) PostUserMessage(message any) { m.post(message, nil) }

// post queues a message, or fails it at once. If the mailbox is idle it is run: by the Runner of
// the calling goroutine, or by the pool if there is none.
func (m *mailbox) post(message any, by *Runner) {
	m.mu.Lock()
	if m.stopped || m.suspended || m.user.len() >= m.limit {
		if why, refused := m.refuses(message); refused {
			m.mu.Unlock()
			if r, ok := message.(Request); ok {
				r.Fail(why)
			}
			return
		}
	}
	m.user.push(message)
	start := !m.running && !m.suspended
	m.running = m.running || start
	m.mu.Unlock()
	switch {
	case !start:
	case by != nil:
		by.runMailbox(m)
	default:
		m.handOver()
	}
}

// refuses reports whether a mailbox that is stopped, suspended or full takes no such message.
func (m *mailbox) refuses(message any) (why Reason, refused bool) {
	if m.stopped {
		return Stopped, true
	}
	_, request := message.(Request)
	_, continuation := message.(Continuation)
	if !request || continuation {
		return 0, false
	}
	if m.suspended {
		return Panicked, true
	}
	return Overloaded, true
}

// PostSystemMessage implements actor.Mailbox. The pool runs what it makes due: the library and
// callers of Stop may hold locks.
func (m *mailbox) PostSystemMessage(message any) {
	m.mu.Lock()
	switch message.(type) {
	case *actor.SuspendMailbox:
		m.suspended = true
	case *actor.ResumeMailbox:
		m.suspended = false
	case *actor.Stop:
		m.stopped = true
		m.system = append(m.system, message)
	default:
		m.system = append(m.system, message)
	}
	start := !m.running && m.due()
	m.running = m.running || start
	m.mu.Unlock()
	if start {
		m.handOver()
	}
}

// due reports whether there is something to handle.
func (m *mailbox) due() bool { return len(m.system) > 0 || !m.suspended && m.user.len() > 0 }

// run has the actor handle messages until there are none, or the rest is for the pool.
func (m *mailbox) run(by *Runner) {
	m.by = by
	for !m.runUntilPanic() {
	}
}

// runUntilPanic is false after a panic, when the mailbox is to be run further.
func (m *mailbox) runUntilPanic() (done bool) {
	var message any
	defer func() {
		if !done {
			m.panicked(recover(), message)
		}
	}()
	for n := 1; ; n++ {
		m.mu.Lock()
		if !m.due() {
			m.by = nil
			m.running = false
			m.mu.Unlock()
			return true
		}
		if !m.by.pooled && (len(m.system) > 0 || m.by.left <= 0) {
			m.by = nil
			m.mu.Unlock()
			m.handOver()
			return true
		}
		if len(m.system) > 0 {
			message = m.system[0]
			if m.system = m.system[1:]; len(m.system) == 0 {
				m.system = nil
			}
			m.mu.Unlock()
			m.by.leaveRest()
			m.handleSystem(message)
			continue
		}
		message = m.user.pop()
		m.mu.Unlock()
		if m.by.pooled {
			m.by.leaveRest() // what was forwarded must not wait for another message
			if n%throughput == 0 {
				runtime.Gosched()
			}
		} else {
			m.by.left--
		}
		m.invoker.InvokeUserMessage(message)
	}
}

// handleSystem has the actor handle a lifecycle message.
func (m *mailbox) handleSystem(message any) {
	switch message.(type) {
	case *actor.Restart:
		m.mu.Lock()
		// The library would resurrect an actor that has stopped. One that did not panic gets the
		// late restart of an earlier actor of its name.
		drop := m.stopped || !m.suspended
		m.mu.Unlock()
		if drop {
			return
		}
		m.ref.restarts.Add(1)
		m.ref.system.restarts.Add(1)
	case *actor.Stop:
		m.mu.Lock()
		rest := m.user
		m.user = queue{}
		m.mu.Unlock()
		for rest.len() > 0 {
			if r, ok := rest.pop().(Request); ok {
				m.ref.fail(r, Stopped)
			}
		}
	}
	m.invoker.InvokeSystemMessage(message)
}

// panicked fails the message in hand and has the actor restarted.
func (m *mailbox) panicked(reason, message any) {
	if reason == nil { // runtime.Goexit, as by a test's FailNow: this goroutine is lost
		m.by = nil
		m.handOver()
		return
	}
	if r, ok := message.(Request); ok {
		m.ref.fail(r, Panicked)
	}
	m.ref.logPanic(reason)
	// Neither the value nor the message is for the library, which may log them.
	m.invoker.EscalateFailure(PanicText(reason), nil)
}

// queue is a first-in first-out queue.
type queue struct {
	items []any
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(item any) { q.items = append(q.items, item) }

// pop takes the first item of a queue that is not empty. A burst's memory is given back.
func (q *queue) pop() any {
	item := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 1024 {
			q.items = nil
		}
	case q.head > 256 && q.head > len(q.items)/2:
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return item
}
