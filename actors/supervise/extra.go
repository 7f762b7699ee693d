package supervise

import (
	"context"
	"fmt"
)

// Go runs fn on a goroutine of the pool on which the actors run. fn may block.
func (s *System) Go(fn func()) { s.pool.schedule(func(*Runner) { fn() }) }

// Holders is how many users there are.
func (r *RefCount) Holders() int64 { return r.state.Load() &^ retired }

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
