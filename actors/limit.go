package actors

import "sync"

// limit bounds the connections of a listener. The bound may change at any time; those who are
// in stay in.
type limit struct {
	mu   sync.Mutex
	free sync.Cond
	in   int
	most int
}

func newLimit(most int) *limit {
	l := &limit{most: most}
	l.free.L = &l.mu
	return l
}

// enter waits until there is room.
func (l *limit) enter() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.in >= l.most {
		l.free.Wait()
	}
	l.in++
}

func (l *limit) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in--
	l.free.Signal()
}

func (l *limit) set(most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = most
	l.free.Broadcast()
}
