package call

import "sync/atomic"

// Gate counts the calls in flight, and closes when the process drains. It is safe for concurrent
// use.
type Gate struct {
	inFlight atomic.Int64 // calls that entered, and have no answer that has left
	draining atomic.Bool
}

// Enter counts a call as in flight, unless the gate is closed: what comes then is refused at once
// and is not waited for.
func (g *Gate) Enter() bool {
	g.inFlight.Add(1)
	if g.draining.Load() {
		g.inFlight.Add(-1)
		return false
	}
	return true
}

// Leave counts n calls as answered.
func (g *Gate) Leave(n int64) { g.inFlight.Add(-n) }

// InFlight is how many calls have entered and not left.
func (g *Gate) InFlight() int64 { return g.inFlight.Load() }

// Drain closes the gate.
func (g *Gate) Drain() { g.draining.Store(true) }

// Draining reports whether the gate is closed.
func (g *Gate) Draining() bool { return g.draining.Load() }
