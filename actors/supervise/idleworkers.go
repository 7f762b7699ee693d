package supervise

import "sync"

// IdleWorkers is where goroutines wait for their next piece of work, at most so many at a time.
// Each waits at a channel of its own, which is cheaper than all of them at one, and the last to
// come is the first to go.
type IdleWorkers[T any] struct {
	most   int
	mu     sync.Mutex
	idle   []chan T // of goroutines that wait, or are about to
	closed bool
}

// NewIdleWorkers returns a place where at most so many goroutines wait.
func NewIdleWorkers[T any](most int) *IdleWorkers[T] { return &IdleWorkers[T]{most: most} }

// Offer hands work to a goroutine that waits for it. It is false if there is none.
func (w *IdleWorkers[T]) Offer(work T) bool {
	w.mu.Lock()
	last := len(w.idle) - 1
	if last < 0 {
		w.mu.Unlock()
		return false
	}
	at := w.idle[last]
	w.idle = w.idle[:last]
	w.mu.Unlock()
	at <- work // has room
	return true
}

// Wait returns the next piece of work. It is false if the goroutine is to end: enough others
// wait, or Close was called. The channel is the goroutine's own, with room for one.
func (w *IdleWorkers[T]) Wait(at chan T) (work T, ok bool) {
	if !w.enter(at) {
		return work, false
	}
	work, ok = <-at
	return work, ok
}

func (w *IdleWorkers[T]) enter(at chan T) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= w.most {
		return false
	}
	w.idle = append(w.idle, at)
	return true
}

// Len is how many goroutines wait.
func (w *IdleWorkers[T]) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.idle)
}

// Close ends the goroutines that wait, and from then on those that would.
func (w *IdleWorkers[T]) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, at := range w.idle {
		close(at)
	}
	w.idle = nil
}
