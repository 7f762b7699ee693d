package memory

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
)

// HashPool is the machine's share of processors for password hashing: as many workers as
// processors, with one short queue for logins and one for the bookkeeping after them. Half of
// the workers do logins only: otherwise the hashes after a thousand first logins would take every
// processor from logins that wait for an answer.
//
// The queues are fair: domains take turns, and within a domain its users, of each of which one job
// runs at a time. Guesses at one user delay a login of another domain by one job. A job is dropped
// when its turn comes if its result is of no use any more, and all are when the pool closes.
type HashPool struct {
	size int // of each queue
	log  *slog.Logger
	wg   sync.WaitGroup

	mu      sync.Mutex
	wake    *sync.Cond
	closed  bool
	urgent  hashQueue
	later   hashQueue
	running map[running]bool
	stop    chan struct{} // closed with the pool
}

// running is the user of a job under way. The bookkeeping after a user's login is no reason for the next
// login of that user to wait.
type running struct {
	id     auth.Identity
	urgent bool
}

// hashJob is work for the pool. failed is called in place of run when the pool has no room, closes, or
// the job is over, and after run when that panics.
type hashJob struct {
	id     auth.Identity // of the user that it is done for
	run    func()
	failed func()
	over   func() bool // the result is of no use any more; nil: never
	urgent bool        // set by submit
}

// NewHashPool starts the workers; at most queue jobs of each urgency wait.
func NewHashPool(workers, queue int, log *slog.Logger) *HashPool {
	p := &HashPool{size: queue, log: log, running: make(map[running]bool), stop: make(chan struct{})}
	p.wake = sync.NewCond(&p.mu)
	for i := range workers {
		p.wg.Go(func() { p.work(i < max(1, workers/2)) })
	}
	return p
}

// submit queues a job; it is false, and the job untouched, when there is no room for it. It never
// blocks. In a full queue a user with few jobs displaces one of the user with the most.
func (p *HashPool) submit(job hashJob, urgent bool) bool {
	job.urgent = urgent
	p.mu.Lock()
	queue := &p.later
	if urgent {
		queue = &p.urgent
	}
	var displaced *hashJob
	if !p.closed && queue.size >= p.size {
		displaced = queue.displace(job.id)
	}
	taken := !p.closed && queue.size < p.size
	if taken {
		queue.push(&job)
	}
	p.mu.Unlock()
	if displaced != nil {
		displaced.failed()
	}
	if taken {
		p.wake.Broadcast()
	}
	return taken
}

// Run does fn for a user on the pool and waits for it; it is the backend.Hashing of the users
// backend. When ctx ends first, the error says whether fn waited for its turn or was under way. When fn
// panics, what it would have found out is not known.
func (p *HashPool) Run(ctx context.Context, id auth.Identity, fn func()) error {
	begun, done, ran, dropped := make(chan struct{}), make(chan struct{}), false, make(chan struct{}, 1)
	job := hashJob{
		id:     id,
		run:    func() { close(begun); defer close(done); fn(); ran = true },
		failed: func() { dropped <- struct{}{} },
		over:   func() bool { return ctx.Err() != nil },
	}
	if p.submit(job, true) {
		select {
		case <-done:
		case <-ctx.Done():
		case <-p.stop:
		case <-dropped:
		}
	}
	over := ctx.Err()
	switch {
	case isClosed(done) && over == nil && ran:
		return nil
	case isClosed(done) && over == nil:
		return passhash.ErrBroken
	case p.closing():
		return passhash.ErrStopped
	case over != nil && isClosed(begun):
		return fmt.Errorf("%w: %w", passhash.ErrSlow, over)
	case over != nil:
		return fmt.Errorf("%w: %w", passhash.ErrBusy, over)
	}
	return passhash.ErrBusy
}

// isClosed reports whether a channel on which nothing is sent is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

var _ backend.Hashing = (*HashPool)(nil).Run

// Close fails what is queued, and waits for the jobs that run.
func (p *HashPool) Close() {
	p.mu.Lock()
	p.closed = true
	close(p.stop)
	jobs := append(p.urgent.all(), p.later.all()...)
	p.urgent, p.later = hashQueue{}, hashQueue{}
	p.mu.Unlock()
	p.wake.Broadcast()
	for _, job := range jobs {
		job.failed()
	}
	p.wg.Wait()
}

// closing reports whether the pool closes: a job that goes on would delay that.
func (p *HashPool) closing() bool { return isClosed(p.stop) }

// work does urgent jobs, and with later also those of bookkeeping where there are none.
func (p *HashPool) work(later bool) {
	for {
		job := p.next(later)
		switch {
		case job == nil:
			return
		case job.over != nil && job.over():
			job.failed()
		default:
			p.do(job)
		}
		p.mu.Lock()
		delete(p.running, running{job.id, job.urgent})
		p.mu.Unlock()
		p.wake.Broadcast() // a job of the same user may have waited for this one
	}
}

// next waits for a job and takes it; nil when the pool is closed.
func (p *HashPool) next(later bool) (job *hashJob) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed {
		if job = p.urgent.pop(func(id auth.Identity) bool { return p.running[running{id, true}] }); job == nil && later {
			job = p.later.pop(func(id auth.Identity) bool { return p.running[running{id, false}] })
		}
		if job != nil {
			p.running[running{job.id, job.urgent}] = true
			return job
		}
		p.wake.Wait()
	}
	return nil
}

// do runs a job, and fails it if it panics.
func (p *HashPool) do(job *hashJob) {
	defer func() {
		if reason := recover(); reason != nil {
			p.log.Error("password hashing panicked", "panic", supervise.PanicText(reason))
			job.failed()
		}
	}()
	job.run()
}
