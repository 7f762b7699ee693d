package actors

import "sync/atomic"

// parking is where goroutines wait for their next piece of work, at most so many at a time.
type parking[T any] struct {
	work    chan T
	done    chan struct{}
	waiting atomic.Int32
	most    int32
}

func newParking[T any](most int32) *parking[T] {
	return &parking[T]{work: make(chan T), done: make(chan struct{}), most: most}
}

// offer hands work to a goroutine that waits for it. It is false if none does.
func (p *parking[T]) offer(work T) bool {
	select {
	case p.work <- work:
		return true
	default:
		return false
	}
}

// wait returns the next piece of work. It is false if the goroutine is to end: enough others
// wait, or the parking is closed.
func (p *parking[T]) wait() (work T, ok bool) {
	if p.waiting.Add(1) <= p.most {
		select {
		case work = <-p.work:
			ok = true
		case <-p.done:
		}
	}
	p.waiting.Add(-1)
	return work, ok
}

// close lets the goroutines go that wait.
func (p *parking[T]) close() { close(p.done) }
