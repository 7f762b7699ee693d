package actors

import "sync"

// parking is where goroutines wait for their next piece of work, at most so many at a time. Each
// waits at a channel of its own, which is cheaper than all of them at one, and the last to come
// is the first to go.
type parking[T any] struct {
	most   int
	mu     sync.Mutex
	idle   []chan T // of goroutines that wait, or are about to
	closed bool
}

func newParking[T any](most int) *parking[T] { return &parking[T]{most: most} }

// offer hands work to a goroutine that waits for it. It is false if none does.
func (p *parking[T]) offer(work T) bool {
	p.mu.Lock()
	last := len(p.idle) - 1
	if last < 0 {
		p.mu.Unlock()
		return false
	}
	at := p.idle[last]
	p.idle = p.idle[:last]
	p.mu.Unlock()
	at <- work // has room
	return true
}

// wait returns the next piece of work. It is false if the goroutine is to end: enough others
// wait, or the parking is closed. The channel is the goroutine's own, with room for one.
func (p *parking[T]) wait(at chan T) (work T, ok bool) {
	if !p.take(at) {
		return work, false
	}
	work, ok = <-at
	return work, ok
}

// take takes a place, unless there is none.
func (p *parking[T]) take(at chan T) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.most {
		return false
	}
	p.idle = append(p.idle, at)
	return true
}

// parked is how many goroutines wait.
func (p *parking[T]) parked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// close lets the goroutines go that wait. From then on nobody does.
func (p *parking[T]) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, at := range p.idle {
		close(at)
	}
	p.idle = nil
}
