package front

import "sync"

// connLimit bounds the connections of a listener. The bound may change at any time; connections
// beyond a lower one stay.
type connLimit struct {
	mu   sync.Mutex
	room sync.Cond
	open int
	most int
}

func newConnLimit(most int) *connLimit {
	l := &connLimit{most: most}
	l.room.L = &l.mu
	return l
}

// enter waits until there is room.
func (l *connLimit) enter() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open >= l.most {
		l.room.Wait()
	}
	l.open++
}

func (l *connLimit) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	l.room.Signal()
}

func (l *connLimit) set(most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = most
	l.room.Broadcast()
}
