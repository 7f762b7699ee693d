package memory

import (
	"os"
	"runtime"
	"sync"
	"time"
)

// A goroutine that computes keeps its processor (GOMAXPROCS) for 10 ms, and nothing polls the network while
// every processor has one: beside hashes, each step of each login took that long. So hashes get processors
// in addition to those that all other goroutines have; the kernel then interrupts them when there is something
// else to do. Their threads keep the common priority: with a lower one, a login that waits for a hash would
// wait for every other program of a busy machine. With more processors than the machine has, all else costs
// more, so they are there only as long as hashes are computed.
var processors struct {
	mu   sync.Mutex
	own  int // while some are lent
	lent int
}

// lendFor is how long a pool keeps what it was lent after the last hash: each change stops all goroutines
// for a moment.
const lendFor = time.Second

// Processors is GOMAXPROCS without what is there for hashes only.
func Processors() int {
	processors.mu.Lock()
	defer processors.mu.Unlock()
	if processors.lent > 0 {
		return processors.own
	}
	return runtime.GOMAXPROCS(0)
}

// lend adds n processors, or takes -n away.
func lend(n int) {
	processors.mu.Lock()
	defer processors.mu.Unlock()
	if processors.lent == 0 {
		processors.own = runtime.GOMAXPROCS(0)
	}
	processors.lent += n
	if processors.lent == 0 && os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS() // which follows the limit of the cgroup again
		return
	}
	runtime.GOMAXPROCS(processors.own + processors.lent)
}

// borrow has the pool use processors of its own from now on. It is called by a worker with a job.
func (p *HashPool) borrow() {
	p.mu.Lock()
	had := p.borrowed
	p.borrowed = true
	p.mu.Unlock()
	if !had {
		lend(p.workers)
	}
}

// giveBack ends that, unless there is a job again.
func (p *HashPool) giveBack() {
	p.mu.Lock()
	due := p.borrowed && len(p.running) == 0
	if due {
		p.borrowed = false
	}
	p.mu.Unlock()
	if due {
		lend(-p.workers)
	}
}
