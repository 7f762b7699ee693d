package actors

import "sync"

// capacity bounds the connections of a listener. The bound may change at any time; those who are
// in stay in.
type capacity struct {
	mu   sync.Mutex
	free sync.Cond
	in   int
	most int
}

func newCapacity(most int) *capacity {
	l := &capacity{most: most}
	l.free.L = &l.mu
	return l
}

// enter waits until there is room.
func (l *capacity) enter() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.in >= l.most {
		l.free.Wait()
	}
	l.in++
}

func (l *capacity) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in--
	l.free.Signal()
}

func (l *capacity) set(most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = most
	l.free.Broadcast()
}
