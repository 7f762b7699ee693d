package supervise

// throughput is how many messages an actor handles before it yields to the Go
// scheduler; measured best between 10 and 64.
const throughput = 32

// idleGoroutines is how many idle goroutines the dispatcher keeps.
const idleGoroutines = 256

// dispatcher runs mailboxes on goroutines that are kept, not made anew for each
// wake-up: a fresh goroutine must grow its stack through the library's frames every
// time, which costs five times the hop itself.
type dispatcher struct{ *IdleWorkers[func(*Runner)] }

func newDispatcher() dispatcher { return dispatcher{NewIdleWorkers[func(*Runner)](idleGoroutines)} }

// schedule calls fn on an idle goroutine, or on a new one, with that goroutine's Runner.
func (d dispatcher) schedule(fn func(*Runner)) {
	if !d.Offer(fn) {
		go d.work(fn)
	}
}

func (d dispatcher) work(fn func(*Runner)) {
	at := make(chan func(*Runner), 1)
	run := &Runner{pooled: true}
	for ok := true; ok; fn, ok = d.Wait(at) {
		fn(run)
	}
}
