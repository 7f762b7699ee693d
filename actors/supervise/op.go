package supervise

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// Why a function was not run, or not to its end, in an actor.
var (
	ErrBusy     = errors.New("busy: try again")             // the caller's context ended first
	ErrStopped  = errors.New("the actor has stopped")       // before the function began
	ErrPanicked = errors.New("it failed; the log says why") // the function, or the actor, each time
)

// opRetries is how often an Op is taken up again after a panic.
const opRetries = 3

// Op is a function to be run in an actor, between two of its messages, where the actor's state
// may be touched. It is sent by Do and Ask, and the actor's Receive runs it:
//
//	case *supervise.Op[*shard]:
//		m.Run(s)
//
// It passes full and suspended mailboxes. After a panic it is sent again, three times at most.
type Op[A any] struct {
	to    *Ref
	fn    func(A)
	done  chan struct{}
	state atomic.Uint32
	tries int
	err   error // once it is over
}

var _ Continuation = (*Op[int])(nil)

// States of an Op.
const (
	opWaits uint32 = iota
	opRuns
	opOver
)

// Do sends a function to an actor of type A.
func Do[A any](to *Ref, fn func(A)) *Op[A] {
	o := &Op[A]{to: to, fn: fn, done: make(chan struct{})}
	to.Send(o)
	return o
}

// Ask runs a function in an actor of type A and waits for its end. What fn writes may be read
// only if the error is nil. The error is ErrStopped or ErrPanicked, or wraps ErrBusy if ctx
// ended first: then fn is not run any more, unless it has begun.
func Ask[A any](ctx context.Context, to *Ref, fn func(A)) error {
	o := Do(to, fn)
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	if o.abandon() {
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	<-o.done
	return o.err
}

// abandon keeps a function that has not begun from being run. It is false if it is over.
func (o *Op[A]) abandon() bool {
	for {
		switch o.state.Load() {
		case opWaits:
			if o.state.CompareAndSwap(opWaits, opOver) {
				return true
			}
		case opRuns:
			return true
		default:
			return false
		}
	}
}

// Continues implements Continuation.
func (*Op[A]) Continues() {}

// Run is for the actor's Receive.
func (o *Op[A]) Run(a A) {
	if o.state.CompareAndSwap(opWaits, opRuns) {
		o.fn(a)
		o.finish(nil)
	}
}

// Fail implements Request.
func (o *Op[A]) Fail(why Reason) {
	switch {
	case why == Stopped:
		o.finish(ErrStopped)
	case o.tries >= opRetries:
		o.finish(ErrPanicked)
	case o.state.Load() != opOver:
		o.tries++
		o.state.CompareAndSwap(opRuns, opWaits)
		o.to.Send(o)
	}
}

func (o *Op[A]) finish(err error) {
	if o.state.Swap(opOver) != opOver {
		o.err = err
		close(o.done)
	}
}

// Done is closed when the function has returned, or will not be run any more.
func (o *Op[A]) Done() <-chan struct{} { return o.done }

// Wait waits for the end of an Op that Do has sent. The errors are those of Ask, but the function
// may still be run when ctx ends first.
func (o *Op[A]) Wait(ctx context.Context) error {
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

// Ran reports, once Done is closed, whether the function was run to its end.
func (o *Op[A]) Ran() bool { return o.err == nil }
