package limit

import (
	"slices"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/internal/unixtime"
)

// Bounds of a Table. Entries with a pause are kept apart from the others, so that a stream of
// invented names does not evict them: an entry that could costs as many refusals as a pause does.
const (
	maxWatched = 32768
	maxLimited = 8192
)

// Table counts refusals by user or by address. It is owned by one goroutine.
type Table[K comparable] struct {
	watched *simplelru.LRU[K, *tally] // without a pause
	limited *simplelru.LRU[K, *tally]
}

// NewTable returns an empty table.
func NewTable[K comparable]() *Table[K] { return newTable[K](maxWatched, maxLimited) }

func newTable[K comparable](watched, limited int) *Table[K] {
	t := &Table[K]{}
	t.watched, _ = simplelru.NewLRU[K, *tally](watched, nil) // it fails for sizes under 1 only
	t.limited, _ = simplelru.NewLRU[K, *tally](limited, nil)
	return t
}

// get returns the tally of k, brought up to now; an empty one outside of the table if there is none.
func (t *Table[K]) get(k K, r *Rules, now unixtime.Time) *tally {
	found, ok := t.limited.Get(k)
	if !ok {
		found, ok = t.watched.Get(k)
	}
	if !ok {
		found = new(tally)
	}
	found.expire(r, now)
	return found
}

// place puts a tally into the list where it belongs now.
func (t *Table[K]) place(k K, x *tally) {
	switch {
	case x.level > 0:
		t.watched.Remove(k)
		t.limited.Add(k, x)
	case x.empty():
		t.watched.Remove(k)
		t.limited.Remove(k)
	default:
		x.name = ""
		t.limited.Remove(k)
		t.watched.Add(k, x)
	}
}

// Admit decides about a question of k with a secret and the deadline end.
func (t *Table[K]) Admit(k K, secret uint64, r *Rules, now, end unixtime.Time) Decision {
	if r.Refusals <= 0 {
		return PassUncounted
	}
	x := t.get(k, r, now)
	d := x.admit(secret, r, now, end)
	t.place(k, x)
	return d
}

// Done ends a question that Admit let Pass, whatever its result.
func (t *Table[K]) Done(k K, r *Rules, now unixtime.Time) {
	x := t.get(k, r, now)
	x.done()
	t.place(k, x)
}

// Refused counts a refusal. begins is true when the pauses begin with it; name is the name of k
// for display.
func (t *Table[K]) Refused(k K, secret uint64, name string, r *Rules, now unixtime.Time) (begins bool) {
	return t.RefusedAlike(k, secret, 0, name, r, now)
}

// RefusedAlike is Refused for a secret that other processes know as alike, see Peers.
func (t *Table[K]) RefusedAlike(k K, secret uint64, alike uint16, name string, r *Rules, now unixtime.Time) (begins bool) {
	return t.refused(k, mark{secret: secret, at: now, alike: alike}, name, r)
}

// Learn counts a refusal that another process has sent, at a time that is not after now. from is as in Guess.
func (t *Table[K]) Learn(k K, e *Event, from uint64, at, now unixtime.Time) (begins bool) {
	if e.Rules.Refusals <= 0 || !at.Within(e.Rules.Window, now) {
		return false
	}
	x := t.get(k, &e.Rules, now)
	if begins = x.refused(mark{at: at, from: from, alike: e.Alike, theirs: true}, &e.Rules); begins {
		x.name = e.Name
	}
	t.place(k, x)
	return begins
}

func (t *Table[K]) refused(k K, m mark, name string, r *Rules) (begins bool) {
	if r.Refusals <= 0 {
		return false
	}
	x := t.get(k, r, m.at)
	if begins = x.refused(m, r); begins {
		x.name = name
	}
	t.place(k, x)
	return begins
}

// Others reports whether secrets other than secret are counted for k.
func (t *Table[K]) Others(k K, secret uint64, now unixtime.Time) bool {
	x := t.get(k, &Rules{}, now)
	return len(x.marks) > 1 || len(x.marks) == 1 && x.has(secret) < 0
}

// Forget forgets k and reports whether it was in the table.
func (t *Table[K]) Forget(k K) bool {
	watched := t.watched.Remove(k)
	return t.limited.Remove(k) || watched
}

// State describes one user or address.
type State struct {
	Name     string        // empty unless limited
	Refusals int           // within the window
	Pauses   int           // in a row
	Until    unixtime.Time // end of the last pause; 0 if there was none
}

// State returns the state of k.
func (t *Table[K]) State(k K, now unixtime.Time) State { return t.get(k, &Rules{}, now).state() }

// Limited lists up to most entries with a pause, the most recently seen first.
func (t *Table[K]) Limited(most int, now unixtime.Time) (list []State) {
	for _, k := range slices.Backward(t.limited.Keys()) {
		if len(list) == most {
			break
		}
		x, _ := t.limited.Peek(k)
		x.expire(&Rules{}, now)
		if x.level > 0 {
			list = append(list, x.state())
		}
	}
	return list
}

// Len is the number of entries without and with a pause.
func (t *Table[K]) Len() (watched, limited int) { return t.watched.Len(), t.limited.Len() }
