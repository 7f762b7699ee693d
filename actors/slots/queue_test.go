package slots

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/limit"
)

// waiter makes a question of a block; its user names it.
func waiter(block, name string) *Question {
	return &Question{Block: block, Query: backend.Query{Op: auth.OpAuth, User: name}}
}

// popAll returns the names of the questions that are ready, in order.
func (w *queue) popAll() (names []string) {
	for q := w.pop(); q != nil; q = w.pop() {
		names = append(names, q.Query.User)
	}
	return names
}

// TestQueueTurns: blocks take turns, and a block's questions keep their order.
func TestQueueTurns(t *testing.T) {
	w := newQueue()
	for _, name := range []string{"a1", "a2", "a3", "a4", "b1", "c1", "b2"} {
		w.add(waiter(name[:1], name))
	}
	if got, want := w.popAll(), []string{"a1", "b1", "c1", "a2", "b2", "a3", "a4"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestQueueParks: what is parked becomes ready in its order, before what came later, and again after
// it was parked once more.
func TestQueueParks(t *testing.T) {
	w := newQueue()
	for _, name := range []string{"a1", "a2", "a3", "b1"} {
		w.park(waiter(name[:1], name), limit.Whole)
	}
	w.add(waiter("a", "a4"))
	w.wake(limit.Whole)
	q := w.pop()
	if q.Query.User != "a1" || q.bound != limit.Whole {
		t.Fatalf("%s was woken", q.Query.User)
	}
	w.park(q, limit.Whole)
	w.wake(limit.Whole)
	w.wake(limit.Whole)
	if got, want := w.popAll(), []string{"a1", "b1", "a4"}; !slices.Equal(got, want) && !slices.Equal(got, []string{"b1", "a1", "a4"}) {
		t.Errorf("%v, want %v", got, want)
	}
	w.add(waiter("a", "a5"))
	w.wakeAll()
	if got, want := w.popAll(), []string{"a2", "a3", "a5"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if w.size() != 0 || len(w.parked) != 0 {
		t.Errorf("%d are left, %d bounds", w.size(), len(w.parked))
	}
}

// TestQueueDisplaces: in a full queue the block with the most gives way, but not for one that has as many.
func TestQueueDisplaces(t *testing.T) {
	w := newQueue()
	if w.displaced("a") != nil {
		t.Error("an empty queue gives something")
	}
	for i := range 4 {
		w.add(waiter("a", fmt.Sprint("a", i)))
	}
	w.add(waiter("b", "b0"))
	for _, c := range []struct{ block, want string }{{"a", ""}, {"b", "a3"}, {"c", "a3"}} {
		got := ""
		if q := w.displaced(c.block); q != nil {
			got = q.Query.User
		}
		if got != c.want {
			t.Errorf("for one of %s %q has to go, want %q", c.block, got, c.want)
		}
	}
	w.add(waiter("b", "b1"))
	w.add(waiter("b", "b2"))
	if q := w.displaced("b"); q != nil {
		t.Errorf("%s has to go, which is no fairer", q.Query.User)
	}
}

// TestQueueBefore: the estimate of what comes before a question is what does.
func TestQueueBefore(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newQueue()
		for range random.IntN(60) {
			w.add(waiter(string(rune('a'+random.IntN(4))), "other"))
		}
		w.add(waiter("z", "other")) // a turn may have passed a moment ago
		block := string(rune('a' + random.IntN(5)))
		want := w.ready.before(block, w.ready.of(block))
		w.add(waiter(block, "last"))
		if got := slices.Index(w.popAll(), "last"); got > want || got < want-5 {
			t.Fatalf("seed %d: %d came before it, estimated %d", seed, got, want)
		}
	}
}

// TestQueueKeepsCount: whatever happens, the counts are those of what waits.
func TestQueueKeepsCount(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newQueue()
		held := map[*Question]bool{}
		bounds := []limit.Bound{limit.Whole}
		b := limit.NewBudget(limit.BudgetRules{Refusals: 8, Window: time.Hour})
		for range 400 {
			switch n := random.IntN(10); {
			case n < 5:
				q := waiter(string(rune('a'+random.IntN(4))), "x")
				q.Guess = limit.Guess{Account: uint64(random.IntN(3)), From: uint64(random.IntN(3)), Stranger: random.IntN(2) == 0}
				q.Known = random.IntN(3) == 0
				q.Deadline = time.Unix(random.Int64N(1000), 0)
				bounds = append(bounds, b.Bounds(&q.Guess)...)
				held[q] = true
				if random.IntN(2) == 0 {
					w.add(q)
				} else {
					w.park(q, bounds[random.IntN(len(bounds))])
				}
			case n < 6:
				w.wake(bounds[random.IntN(len(bounds))])
			case n < 7:
				if q := w.pop(); q != nil {
					delete(held, q)
				}
			case n < 8 && w.size() > 0: // the first to end
				q := w.ends[0]
				for other := range held {
					if other.Deadline.Before(q.Deadline) {
						t.Fatalf("seed %d: not the first to end", seed)
					}
				}
				w.remove(q)
				delete(held, q)
			case n < 9:
				w.wakeSome()
			default:
				if q := w.pop(); q != nil {
					w.park(q, bounds[random.IntN(len(bounds))])
				}
			}
			from, parked := map[uint64]int{}, 0
			for q := range held {
				if q.Guess.From != 0 && !q.Known {
					from[q.Guess.From]++
				}
				if q.in == nil {
					t.Fatalf("seed %d: one that waits is nowhere", seed)
				}
			}
			for _, f := range w.parked {
				if f.size == 0 {
					t.Fatalf("seed %d: an empty bound is kept", seed)
				}
				parked += f.size
			}
			if w.size() != len(held) || w.ready.size+parked != len(held) || fmt.Sprint(w.from) != fmt.Sprint(from) {
				t.Fatalf("seed %d: %d wait, want %d; of addresses %v, want %v", seed, w.size(), len(held), w.from, from)
			}
		}
		w.wakeAll()
		if n := len(w.popAll()); n != len(held) || len(w.from) != 0 || w.ends != nil {
			t.Fatalf("seed %d: %d were ready of %d", seed, n, len(held))
		}
	}
}
