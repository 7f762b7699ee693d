package supervise

import "github.com/asynkron/protoactor-go/actor"

// throughput is how many messages an actor handles before it yields to the Go
// scheduler; measured best between 10 and 64.
const throughput = 32

// idleGoroutines is how many idle goroutines the dispatcher keeps.
const idleGoroutines = 256

// dispatcher runs mailboxes on goroutines that are kept, not made anew for each
// wake-up: a fresh goroutine must grow its stack through the library's frames every
// time, which costs five times the hop itself.
type dispatcher struct{ *IdleWorkers[func()] }

var _ actor.Dispatcher = dispatcher{}

func newDispatcher() dispatcher { return dispatcher{NewIdleWorkers[func()](idleGoroutines)} }

// Schedule hands fn to an idle goroutine, or starts one.
func (d dispatcher) Schedule(fn func()) {
	if !d.Offer(fn) {
		go d.work(fn)
	}
}

// Throughput implements actor.Dispatcher.
func (d dispatcher) Throughput() int { return throughput }

func (d dispatcher) work(fn func()) {
	at := make(chan func(), 1)
	for ok := true; ok; fn, ok = d.Wait(at) {
		fn()
	}
}
