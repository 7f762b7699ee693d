package supervise

import (
	"runtime/debug"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// Reason is why a request was not handled.
type Reason uint8

// The reasons.
const (
	Stopped    Reason = iota // the actor has stopped, or is about to
	Panicked                 // the actor panicked while it handled the request, or waits for its restart
	Overloaded               // the actor's queue is full
)

// String returns the reason as a word in lower case.
func (r Reason) String() string {
	switch r {
	case Stopped:
		return "stopped"
	case Panicked:
		return "panicked"
	case Overloaded:
		return "overloaded"
	}
	return "unknown"
}

// Request is a message that a caller waits for. If the actor cannot handle it, it is failed.
// Fail may be called any number of times and from any goroutine, and never blocks.
type Request interface{ Fail(Reason) }

// Continuation is a request whose first part is done and whose rest must not be lost, such as a
// backend's answer that is to be remembered. It passes full and suspended mailboxes (the number
// of continuations is bounded by that of the requests admitted), and Fail may send it again
// after a panic.
type Continuation interface {
	Request
	Continues()
}

// FailAll fails every request of a list, such as those that an actor holds when it is restarted
// or stopped.
func FailAll[R Request](held []R, why Reason) {
	for _, r := range held {
		r.Fail(why)
	}
}

// Ref is an actor. It stays the same through restarts.
type Ref struct {
	name     string
	system   *System
	unlisted bool
	box      mailbox
	restarts atomic.Int64
	stopped  chan struct{}
}

// Name is the name under which the actor was started.
func (r *Ref) Name() string { return r.name }

// Queued is how many messages wait for the actor.
func (r *Ref) Queued() int { return r.box.UserMessageCount() }

// Restarts is how often the actor was restarted.
func (r *Ref) Restarts() int64 { return r.restarts.Load() }

// Send sends a message, from any goroutine. The actor handles it on a goroutine of the pool.
func (r *Ref) Send(message any) { r.box.post(message, nil) }

// SendBy sends a message from the goroutine that owns run. If the actor is idle, it handles the
// message there before SendBy returns, so the caller must hold no lock; see Runner.
func (r *Ref) SendBy(run *Runner, message any) { r.box.post(message, run) }

// Forward sends a message to another actor from within r's Receive, and may be called nowhere
// else. If the other actor is idle, it is run next by the goroutine that runs r: after the
// message that r handles now, so Forward is best the last thing that Receive does.
func (r *Ref) Forward(to *Ref, message any) { to.box.post(message, r.box.by) }

// Stop stops the actor after the message that it handles now. What is queued, and what is sent
// from now on, is failed as Stopped. It does not wait; see Stopped. It may be called again.
func (r *Ref) Stop() { r.box.PostSystemMessage(&actor.Stop{}) }

// Stopped is closed when the actor has handled *actor.Stopped and its queue has been failed.
func (r *Ref) Stopped() <-chan struct{} { return r.stopped }

// hasStopped is called when the actor has handled *actor.Stopped.
func (r *Ref) hasStopped() {
	r.system.unlist(r)
	close(r.stopped)
}

// fail fails a request on behalf of the mailbox, which must survive a panic of Fail.
func (r *Ref) fail(q Request, why Reason) {
	defer r.recovered()
	q.Fail(why)
}

// recovered, deferred, recovers and logs a panic.
func (r *Ref) recovered() {
	if reason := recover(); reason != nil {
		r.logPanic(reason)
	}
}

// logPanic logs a panic with its stack, but never its value as a whole: see PanicText.
func (r *Ref) logPanic(reason any) {
	r.system.log.Error("actor panicked and will be restarted", "actor", r.name,
		"panic", PanicText(reason), "stack", string(debug.Stack()))
}
