package actors

import "github.com/asynkron/protoactor-go/actor"

// throughput is how many messages an actor handles before it yields to the Go
// scheduler; measured best between 10 and 64.
const throughput = 32

// parked is how many idle goroutines the dispatcher keeps.
const parked = 256

// dispatcher runs actors on goroutines that are kept, not made anew for each
// wake-up: a fresh goroutine must grow its stack through the library's frames every
// time, which costs five times the hop itself.
type dispatcher struct{ *parking[func()] }

var _ actor.Dispatcher = dispatcher{}

func newDispatcher() dispatcher { return dispatcher{newParking[func()](parked)} }

// Schedule hands fn to a parked goroutine, or starts one.
func (d dispatcher) Schedule(fn func()) {
	if !d.offer(fn) {
		go d.work(fn)
	}
}

// Throughput implements actor.Dispatcher.
func (d dispatcher) Throughput() int { return throughput }

func (d dispatcher) work(fn func()) {
	at := make(chan func(), 1)
	for ok := true; ok; fn, ok = d.wait(at) {
		fn()
	}
}
