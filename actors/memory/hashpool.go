package memory

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
)

const (
	// roundCost is what a round of bcrypt takes until that is measured: a quarter of a second at cost 12.
	roundCost = 60 * time.Microsecond
	// leastRound is less than any processor needs for a round: what takes less was no comparison.
	leastRound = time.Microsecond
	// leastRounds are those of the shortest job that is measured: of shorter ones the scheduler has most.
	leastRounds = 1 << 8
	// reviewEvery is how often logins that wait are asked whether they have a quicker way, and reviewMost how
	// many take it at a time: the other way fills up, too.
	reviewEvery = 10 * time.Millisecond
	reviewMost  = 64
)

// HashPool is the machine's share of processors for password hashing: as many workers as
// processors, with one queue for logins and one for the bookkeeping after them. Bookkeeping begins only
// while no login waits, and on half of the workers: otherwise the hashes after a thousand first logins
// would take every processor from logins that wait for an answer.
//
// The queues are fair: domains take turns, and within a domain its users, of each of which one job
// runs at a time. Guesses at one user delay a login of another domain by one job.
//
// A job is dropped if its result is of no use any more, or when its turn comes if it would end too late while
// others wait. Logins are not refused for the length of the queue: chance would decide then which of those
// that are tried again and again get through. For the same reason a user whose login was dropped has its former
// place when it comes again. A login that waits may go another way (hashJob.leaves). The bound on the number of
// jobs is for memory alone.
//
// The workers have processors of their own (see processors).
type HashPool struct {
	size int // of each queue
	log  *slog.Logger
	wg   sync.WaitGroup

	workers, general int // all, and those that do bookkeeping, too

	match func(hash, password string) bool
	make  func(password string, cost int) (string, error)

	mu        sync.Mutex
	closed    bool
	urgent    hashQueue
	later     hashQueue
	dropped   *simplelru.LRU[auth.Identity, drop]
	running   map[running]*hashJob
	borrowed  bool        // processors are lent to the pool
	unused    *time.Timer // calls giveBack
	idle      [2]int      // workers that wait, by whether they do bookkeeping
	wake      [2]*sync.Cond
	round     time.Duration // what a round of bcrypt takes
	known     bool          // it was measured
	other     time.Duration // what a job of unknown work takes
	reviewing bool
	stop      chan struct{} // closed with the pool
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
	rounds int           // of bcrypt; 0: not known
	run    func()
	failed func()
	over   func() bool // the result is of no use any more; nil: never

	// deadline is by when the result is of use; zero: at any time.
	deadline time.Time
	// patience is after what wait the job is not worth its work; 0: it always is.
	patience time.Duration
	// leaves reports whether a job that will wait so long, and takes so long then, has a quicker way; nil: it
	// has none. It must be quick and take no locks of actors or of the pool. left is then called in place of run.
	leaves func(wait, cost time.Duration) bool
	left   func()

	// since is when the job, or one of the same user that it repeats, began to wait, see place; zero: now.
	since time.Time

	urgent bool // set by submit, as is what follows
	cost   time.Duration
	begun  time.Time
}

// NewHashPool starts the workers; at most queue jobs of each urgency wait.
func NewHashPool(workers, queue int, log *slog.Logger) *HashPool {
	p := &HashPool{
		size: queue, log: log, workers: workers, general: max(1, workers/2), match: passhash.Match, make: passhash.New,
		running: make(map[running]*hashJob), stop: make(chan struct{}), round: roundCost,
	}
	p.dropped, _ = simplelru.NewLRU[auth.Identity, drop](max(queue, 1), nil) // it fails for sizes under 1 only
	p.unused = time.AfterFunc(lendFor, p.giveBack)
	p.wake[0], p.wake[1] = sync.NewCond(&p.mu), sync.NewCond(&p.mu)
	for i := range workers {
		p.wg.Go(func() { p.work(i < p.general) })
	}
	return p
}

// Match compares a password with a hash, on a worker, and measures how long that takes.
func (p *HashPool) Match(hash, password string) bool {
	begun := time.Now()
	defer func() { p.measured(passhash.Rounds(hash), time.Since(begun)) }()
	return p.match(hash, password)
}

// Make hashes a password, on a worker.
func (p *HashPool) Make(password string, cost int) (string, error) {
	begun := time.Now()
	defer func() { p.measured(1<<cost, time.Since(begun)) }()
	return p.make(password, cost)
}

// measured takes what some rounds of bcrypt took.
func (p *HashPool) measured(rounds int, took time.Duration) {
	if rounds < leastRounds || took < time.Duration(rounds)*leastRound {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round = smoothed(p.round, took/time.Duration(rounds), p.known)
	p.known = true
}

// smoothed follows a measure, from the first one on.
func smoothed(mean, one time.Duration, known bool) time.Duration {
	if !known {
		return one
	}
	return mean + (one-mean)/4
}

// costOf is what a job is expected to take, once it runs.
func (p *HashPool) costOf(rounds int) time.Duration {
	switch {
	case rounds > 0:
		return time.Duration(rounds) * p.round
	case p.other > 0:
		return p.other
	}
	return p.round << passhash.DefaultCost
}

// Expect returns how long a login's job of some rounds would wait for its turn, and how long it would run.
// It may be called from any goroutine.
func (p *HashPool) Expect(id auth.Identity, rounds int) (wait, cost time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cost = p.costOf(rounds)
	return p.wait(id, cost, true), cost
}

// wait is how long a job that is queued now would wait.
func (p *HashPool) wait(id auth.Identity, cost time.Duration, urgent bool) time.Duration {
	left := p.unfinished()
	if !urgent {
		return (left+p.urgent.cost)/time.Duration(p.workers) + p.later.cost/time.Duration(p.general)
	}
	ahead, own := p.urgent.ahead(id)
	if p.running[running{id, true}] != nil {
		own++
	} else if ahead == 0 && len(p.running) < p.workers {
		return 0
	}
	if p.urgent.size > 0 {
		left += time.Duration(ahead) * (p.urgent.cost / time.Duration(p.urgent.size))
	}
	return max(left/time.Duration(p.workers), time.Duration(own)*cost)
}

// unfinished is what the jobs that run still take.
func (p *HashPool) unfinished() (left time.Duration) {
	now := time.Now()
	for _, job := range p.running {
		left += max(job.cost-now.Sub(job.begun), job.cost/4) // what is overdue ends some time
	}
	return left
}

// submit queues a job; it is false, and the job untouched, when there is no room for it, or it would wait for
// longer than it is worth. It never blocks. In a full queue a user with few jobs displaces one of the user
// with the most.
func (p *HashPool) submit(job hashJob, urgent bool) bool {
	job.urgent = urgent
	p.mu.Lock()
	queue := &p.later
	if urgent {
		queue = &p.urgent
	}
	var displaced *hashJob
	taken := !p.closed && p.worthwhile(&job)
	if taken && queue.size >= p.size {
		displaced = queue.displace(job.id)
	}
	if taken = taken && queue.size < p.size; taken {
		if job.since.IsZero() {
			job.since = p.since(job.id, urgent)
		}
		queue.push(&job)
		p.signal()
		p.review()
	}
	p.mu.Unlock()
	if displaced != nil {
		displaced.failed()
	}
	return taken
}

// drop is a login of a user that ended before its turn.
type drop struct{ since, at time.Time }

// A user has the place of that login if it comes again within keepPlace, and for mostPlace in all: else
// it could be held in stock by logins that are given up.
const (
	keepPlace = time.Minute
	mostPlace = 10 * time.Minute
)

// place is when a login of a user, or the one that it repeats, began to wait.
func (p *HashPool) place(id auth.Identity) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.since(id, true)
}

// since is when a job of a user, or the login that it repeats, came.
func (p *HashPool) since(id auth.Identity, urgent bool) time.Time {
	now := time.Now()
	if d, ok := p.dropped.Get(id); ok && urgent {
		p.dropped.Remove(id)
		if now.Sub(d.at) < keepPlace && now.Sub(d.since) < mostPlace {
			return d.since
		}
	}
	return now
}

// drops notes that a job has ended before its turn.
func (p *HashPool) drops(job *hashJob) {
	if job.urgent {
		p.dropped.Add(job.id, drop{job.since, time.Now()})
	}
}

// worthwhile reports whether a job's turn comes while it is worth its work.
func (p *HashPool) worthwhile(job *hashJob) bool {
	job.cost = p.costOf(job.rounds)
	return job.patience == 0 || p.wait(job.id, job.cost, job.urgent) <= job.patience
}

// signal wakes a worker for the jobs that wait, if one can take them: each worker wakes the next one when it
// has taken a job.
func (p *HashPool) signal() {
	logins := p.urgent.size > 0
	if logins && p.idle[0] > 0 {
		p.wake[0].Signal()
		logins = false
	}
	if (logins || p.later.size > 0) && p.idle[1] > 0 {
		p.wake[1].Signal()
	}
}

// review has the logins that wait looked through in a moment.
func (p *HashPool) review() {
	if p.reviewing || p.closed || p.urgent.size == 0 {
		return
	}
	p.reviewing = true
	time.AfterFunc(reviewEvery, p.reviewNow)
}

// reviewNow has jobs that wait go another way, and takes out those that are over: a new one would wait behind
// them, or not be taken.
func (p *HashPool) reviewNow() {
	p.mu.Lock()
	each := time.Duration(p.workers)
	ahead := p.unfinished() / each
	leaving := p.urgent.remove(reviewMost, func(job *hashJob) bool {
		if job.over != nil && job.over() {
			job.left = job.failed
			p.drops(job)
			return true
		}
		if job.leaves != nil && job.leaves(ahead, job.cost) {
			return true
		}
		ahead += job.cost / each
		return false
	})
	p.reviewing = false
	p.review()
	p.mu.Unlock()
	for _, job := range leaving {
		job.left()
	}
}

// loginsWait reports whether bookkeeping should make room.
func (p *HashPool) loginsWait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.urgent.size > 0
}

// Run does fn for a user on the pool and waits for it; it is the backend.Hashing of the users
// backend. When ctx ends first, the error says whether fn waited for its turn or was under way. When fn
// panics, what it would have found out is not known.
func (p *HashPool) Run(ctx context.Context, id auth.Identity, fn func()) error {
	begun, done, ran, dropped := make(chan struct{}), make(chan struct{}), false, make(chan struct{}, 1)
	deadline, _ := ctx.Deadline()
	job := hashJob{
		id: id, deadline: deadline,
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

// Close fails what is queued, and waits for the jobs that run unless ctx ends before. They have no effect
// any more.
func (p *HashPool) Close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	close(p.stop)
	jobs := append(p.urgent.all(), p.later.all()...)
	p.urgent, p.later = hashQueue{}, hashQueue{}
	p.mu.Unlock()
	p.wake[0].Broadcast()
	p.wake[1].Broadcast()
	for _, job := range jobs {
		job.failed()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.wg.Wait()
		p.unused.Stop()
		p.giveBack()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
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
		case job.over != nil && job.over() || p.tooLate(job):
			p.mu.Lock()
			p.drops(job)
			p.mu.Unlock()
			job.failed()
		default:
			p.borrow()
			p.do(job)
		}
		p.mu.Lock()
		if delete(p.running, running{job.id, job.urgent}); len(p.running) == 0 {
			p.unused.Reset(lendFor)
		}
		p.mu.Unlock()
	}
}

// tooLate reports whether a job cannot end in time, while others wait that may. The last one runs, since
// it may take less than expected, which is measured then.
func (p *HashPool) tooLate(job *hashJob) bool {
	return !job.deadline.IsZero() && time.Until(job.deadline) < job.cost && p.loginsWait()
}

// next waits for a job and takes it; nil when the pool is closed.
func (p *HashPool) next(later bool) (job *hashJob) {
	kind := 0
	if later {
		kind = 1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed {
		if job = p.urgent.pop(func(id auth.Identity) bool { return p.running[running{id, true}] != nil }); job == nil && later {
			job = p.later.pop(func(id auth.Identity) bool { return p.running[running{id, false}] != nil })
		}
		if job != nil {
			job.begun, job.cost = time.Now(), p.costOf(job.rounds)
			p.running[running{job.id, job.urgent}] = job
			p.signal()
			return job
		}
		p.idle[kind]++
		p.wake[kind].Wait()
		p.idle[kind]--
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
		if job.rounds == 0 {
			p.mu.Lock()
			p.other = smoothed(p.other, time.Since(job.begun), p.other > 0)
			p.mu.Unlock()
		}
	}()
	job.run()
}
