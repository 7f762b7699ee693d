package actors

import (
	"sync/atomic"
	"time"
)

// nagEvery is the least time between two log lines that say the same of one backend. Each
// decision has a line of its own besides.
const nagEvery = 10 * time.Second

// nag keeps a complaint from filling the log. It is safe for concurrent use.
type nag struct {
	next atomic.Int64 // Unix nanoseconds before which nothing is said
	held atomic.Int64
}

// due reports whether to complain now, and how many complaints were held back before. A clock that
// was set back since the last one must not silence it for as long.
func (n *nag) due(now time.Time) (held int64, ok bool) {
	next := n.next.Load()
	wait := time.Duration(next - now.UnixNano())
	if wait > 0 && wait <= nagEvery || !n.next.CompareAndSwap(next, now.Add(nagEvery).UnixNano()) {
		n.held.Add(1)
		return 0, false
	}
	return n.held.Swap(0), true
}
