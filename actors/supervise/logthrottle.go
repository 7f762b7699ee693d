package supervise

import (
	"sync/atomic"
	"time"
)

// LogThrottleInterval is the least time between two log lines of one LogThrottle.
const LogThrottleInterval = 10 * time.Second

// LogThrottle keeps a repeated message from filling the log. The zero value is ready. It is
// safe for concurrent use.
type LogThrottle struct {
	next atomic.Int64 // Unix nanoseconds before which nothing is logged
	held atomic.Int64
}

// Due reports whether to log now, and how many messages were suppressed before. A clock that
// was set back since the last one must not suppress them for as long.
func (t *LogThrottle) Due(now time.Time) (suppressed int64, ok bool) {
	next := t.next.Load()
	wait := time.Duration(next - now.UnixNano())
	if wait > 0 && wait <= LogThrottleInterval ||
		!t.next.CompareAndSwap(next, now.Add(LogThrottleInterval).UnixNano()) {
		t.held.Add(1)
		return 0, false
	}
	return t.held.Swap(0), true
}
