package memory

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"postern/actors/supervise"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
)

// HashPool is the machine's share of processors for password hashing: as many workers as
// processors, with one short queue for logins and one for the bookkeeping after them. Half of
// the workers do logins only: otherwise the hashes after a thousand first logins would take every
// processor from logins that wait for an answer.
type HashPool struct {
	urgent chan hashJob
	later  chan hashJob
	stop   chan struct{}
	wg     sync.WaitGroup
	log    *slog.Logger
}

// hashJob is work for the pool. failed is called in place of run when the pool has no room or closes,
// and after run when that panics.
type hashJob struct {
	run    func()
	failed func()
}

// NewHashPool starts the workers; at most queue jobs of each urgency wait.
func NewHashPool(workers, queue int, log *slog.Logger) *HashPool {
	p := &HashPool{
		urgent: make(chan hashJob, queue), later: make(chan hashJob, queue),
		stop: make(chan struct{}), log: log,
	}
	for i := range workers {
		p.wg.Add(1)
		later := p.later
		if i >= max(1, workers/2) {
			later = nil
		}
		go p.work(later)
	}
	return p
}

// submit queues a job; it is false, and the job untouched, when the queue is full. It never
// blocks.
func (p *HashPool) submit(job hashJob, urgent bool) bool {
	queue := p.later
	if urgent {
		queue = p.urgent
	}
	select {
	case <-p.stop:
		return false
	default:
	}
	select {
	case queue <- job:
	default:
		return false
	}
	select {
	case <-p.stop: // close may have looked into the queue before
		p.drain()
	default:
	}
	return true
}

// Run does fn on the pool and waits for it; it is the backend.Hashing of the users backend. When ctx
// ends first the processors were busy. When fn panics, what it would have found out is not known.
func (p *HashPool) Run(ctx context.Context, fn func()) error {
	done, ran := make(chan struct{}), false
	job := hashJob{run: func() {
		defer close(done)
		if ctx.Err() == nil {
			fn()
			ran = true
		}
	}, failed: func() {}}
	if !p.submit(job, true) {
		return passhash.ErrBusy
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-p.stop:
		return passhash.ErrBusy
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", passhash.ErrBusy, err)
	}
	if !ran { // done is closed, or ctx would have ended
		return passhash.ErrBroken
	}
	return nil
}

var _ backend.Hashing = (*HashPool)(nil).Run

// Close lets the workers end. What is queued is failed.
func (p *HashPool) Close() {
	close(p.stop)
	p.wg.Wait()
	p.drain()
}

// drain fails what is queued.
func (p *HashPool) drain() {
	for {
		select {
		case job := <-p.urgent:
			job.failed()
		case job := <-p.later:
			job.failed()
		default:
			return
		}
	}
}

// work does urgent jobs, and jobs of later where there are none.
func (p *HashPool) work(later <-chan hashJob) {
	defer p.wg.Done()
	for {
		select { // logins first
		case job := <-p.urgent:
			p.do(job)
			continue
		default:
		}
		select {
		case <-p.stop:
			return
		case job := <-p.urgent:
			p.do(job)
		case job := <-later:
			p.do(job)
		}
	}
}

func (p *HashPool) do(job hashJob) {
	defer func() {
		if reason := recover(); reason != nil {
			p.log.Error("password hashing panicked", "panic", supervise.PanicText(reason))
			job.failed()
		}
	}()
	job.run()
}
