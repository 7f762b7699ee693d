package front

import "sync"

// connLimit bounds the connections of a listener, and counts them by the users of their peers. The
// bound may change at any time; connections beyond a lower one stay.
type connLimit struct {
	mu    sync.Mutex
	room  sync.Cond
	open  int // also those that are being accepted
	most  int
	users map[int]int // connections by uid, or anyUser
}

func newConnLimit(most int) *connLimit {
	l := &connLimit{most: most, users: make(map[int]int)}
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

// leave takes back an enter after which no connection came.
func (l *connLimit) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	l.room.Signal()
}

// crowding is the state of a listener that has few connections left.
type crowding struct {
	open, most int
	user       int  // that has the most connections
	greedy     bool // the newcomer's user has more than half of what there may be
}

// came counts a connection that was accepted. crowded reports that a tenth or less is left.
func (l *connLimit) came(uid int) (c crowding, crowded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users[uid]++
	if l.most < 10 || l.open < l.most*9/10 {
		return c, false
	}
	c = crowding{open: l.open, most: l.most, user: uid, greedy: uid != anyUser && l.users[uid] > l.most/2}
	for user, n := range l.users {
		if n > l.users[c.user] {
			c.user = user
		}
	}
	return c, true
}

// went takes back came and enter, at the end of a connection.
func (l *connLimit) went(uid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users[uid]--; l.users[uid] == 0 {
		delete(l.users, uid)
	}
	l.open--
	l.room.Signal()
}

func (l *connLimit) set(most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = most
	l.room.Broadcast()
}
