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
type dispatcher struct {
	idle  chan func()
	slots chan struct{}
	done  chan struct{}
}

var _ actor.Dispatcher = (*dispatcher)(nil)

func newDispatcher() *dispatcher {
	return &dispatcher{
		idle:  make(chan func()),
		slots: make(chan struct{}, parked),
		done:  make(chan struct{}),
	}
}

// Schedule hands fn to a parked goroutine, or starts one.
func (d *dispatcher) Schedule(fn func()) {
	select {
	case d.idle <- fn:
	default:
		go d.work(fn)
	}
}

// Throughput implements actor.Dispatcher.
func (d *dispatcher) Throughput() int { return throughput }

func (d *dispatcher) work(fn func()) {
	fn()
	select {
	case d.slots <- struct{}{}:
	default:
		return // enough goroutines are parked
	}
	defer func() { <-d.slots }()
	for {
		select {
		case fn = <-d.idle:
			fn()
		case <-d.done:
			return
		}
	}
}

// close lets the parked goroutines go. Schedule keeps working without them.
func (d *dispatcher) close() { close(d.done) }
