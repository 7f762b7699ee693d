package actors

import (
	"time"

	"postern/internal/auth"
)

// sweepEvery is how exactly deadlines are kept.
const sweepEvery = 20 * time.Millisecond

// sweep ends every call that is past its deadline, whatever happened to it: the backstop
// behind everything else. There is one per process.
func (b *Broker) sweep() {
	defer close(b.swept)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	pruned := time.Now()
	tidied := pruned
	for {
		select {
		case <-b.sweeper:
			return
		case <-tick.C:
		}
		b.sweeps.Add(1)
		now := time.Now()
		if b.inFlight.Load() > 0 {
			b.sweepOnce(now)
		}
		if b.tenants.awake.Load() > 0 && now.Sub(tidied) >= tidyPause(b.settings.Load().Registry.Idle) &&
			b.tenants.tidying.CompareAndSwap(false, true) {
			tidied = now
			b.aside(b.tidy)
		}
		if now.Sub(pruned) > pruneEvery {
			pruned = now
			if b.pruning.CompareAndSwap(false, true) {
				b.aside(b.pruneNonces) // a slow disk must not delay those who are late
			}
		}
	}
}

func (b *Broker) sweepOnce(now time.Time) {
	b.mu.Lock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		if c.busy() {
			conns = append(conns, c)
		}
	}
	b.mu.Unlock()
	for _, c := range conns {
		c.sweep(now)
	}
}

// sweep looks at those slots of the ring that are in use.
func (c *conn) sweep(now time.Time) {
	size := uint64(len(c.ring))
	from := c.next.Load()
	to := min(c.last.Load(), from+size)
	if c.loose != nil { // any may be
		from, to = 0, size
	}
	for ; from < to; from++ {
		if call := c.ring[from%size].Load(); call != nil && now.After(call.Deadline) {
			call.Fail(auth.SourceDeadline)
		}
	}
}
