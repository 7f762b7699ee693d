package front

import (
	"time"
)

// makeRoom is called for a newcomer when a tenth or less of a listener's connections is left. It ends
// the connection that has been idle for longest, of the user with the most connections: so a process
// that only holds connections open does not keep others out. It is false if the newcomer is to be closed
// instead: its user holds more than half of the connections, none of them idle.
func (l *listener) makeRoom(c crowding) bool {
	now := time.Now()
	var longest *conn
	l.server.mu.Lock()
	for other := range l.server.conns {
		if other.listener == l && other.from.uid == c.user && !other.busy() &&
			(longest == nil || other.active.Load() < longest.active.Load()) {
			longest = other
		}
	}
	l.server.mu.Unlock()
	if longest != nil {
		longest.endReading()
	}
	if held, ok := l.crowdLog.Due(now); ok {
		attrs := []any{"listener", l.params.Load().Name, "open", c.open, "max_connections", c.most, "alike", held}
		if longest != nil {
			attrs = append(attrs, "peer", longest.Peer(), "idle", now.Sub(time.Unix(0, longest.active.Load())).Round(time.Millisecond))
		}
		l.server.env.Log.Warn("connections are running out; the one that was idle for longest is closed", attrs...)
	}
	return longest != nil || !c.greedy
}
