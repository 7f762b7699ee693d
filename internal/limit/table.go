package limit

import (
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/internal/unixtime"
)

// Bounds of a Table. Those who are limited stand apart from the others, so that a stream of
// invented names does not make anybody's pauses be forgotten: each name that pushes one out
// costs all the refusals that make a pause.
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

// get returns what is known of k, brought up to now; a tally that is not in the table yet if
// nothing is.
func (t *Table[K]) get(k K, r *Rules, now unixtime.Time) *tally {
	found, ok := t.limited.Get(k)
	if !ok {
		found, ok = t.watched.Get(k)
	}
	if !ok {
		return new(tally)
	}
	found.settle(r, now)
	return found
}

// place puts a tally where it belongs now.
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

// Admit decides about a question of k with a secret, which is given up at the moment end.
func (t *Table[K]) Admit(k K, secret uint64, r *Rules, now, end unixtime.Time) Decision {
	if r.Refusals <= 0 {
		return PassUncounted
	}
	x := t.get(k, r, now)
	d := x.ask(secret, r, now, end)
	t.place(k, x)
	return d
}

// Done takes the end of a question to which Ask said Pass.
func (t *Table[K]) Done(k K, r *Rules, now unixtime.Time) {
	x := t.get(k, r, now)
	x.landed()
	t.place(k, x)
}

// Refused counts a refusal. begins is true when the pauses begin with it; name is what people
// know k by.
func (t *Table[K]) Refused(k K, secret uint64, name string, r *Rules, now unixtime.Time) (begins bool) {
	if r.Refusals <= 0 {
		return false
	}
	x := t.get(k, r, now)
	if begins = x.refused(secret, r, now); begins {
		x.name = name
	}
	t.place(k, x)
	return begins
}

// Forget forgets k and reports whether anything was known.
func (t *Table[K]) Forget(k K) bool {
	watched := t.watched.Remove(k)
	return t.limited.Remove(k) || watched
}

// State is what is known of one user or address.
type State struct {
	Name     string        // empty unless limited
	Refusals int           // within the window
	Pauses   int           // in a row
	Until    unixtime.Time // end of the last pause; 0 if there was none
}

// State returns what is known of k now.
func (t *Table[K]) State(k K, r *Rules, now unixtime.Time) State {
	x := t.get(k, r, now)
	s := State{Name: x.name, Refusals: len(x.marks), Pauses: x.level}
	if x.level > 0 {
		s.Until = x.until
	}
	return s
}

// Limited lists those with a pause, the one seen last first, and at most most of them.
func (t *Table[K]) Limited(most int, r *Rules, now unixtime.Time) (list []State) {
	keys := t.limited.Keys()
	for i := len(keys) - 1; i >= 0 && len(list) < most; i-- {
		x, _ := t.limited.Peek(keys[i])
		x.settle(r, now)
		if x.level > 0 {
			list = append(list, State{Name: x.name, Refusals: len(x.marks), Pauses: x.level, Until: x.until})
		}
	}
	return list
}

// Len is how many are in the table without and with a pause.
func (t *Table[K]) Len() (watched, limited int) { return t.watched.Len(), t.limited.Len() }
