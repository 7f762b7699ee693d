package limit

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/internal/unixtime"
)

// BudgetRules say how many refusals a backend may have from us. The zero BudgetRules limit
// nothing.
type BudgetRules struct {
	Refusals int // within Window; 0: no limit
	Window   time.Duration
}

// maxRepeats bounds the refused secrets that a Budget remembers.
const maxRepeats = 4096

// repeat is a secret that the backend has refused, perhaps several times.
type repeat struct {
	user  uint64
	times int
	next  unixtime.Time // not asked about before
}

// Budget keeps the refusals that reach a backend within what it bears before it punishes all
// who come from our address. Only secrets that the cache has not seen accepted cost: as many of
// them are under way as there are refusals left. A secret that was refused is asked about again
// after half a window at the earliest, and after four times as long with each refusal that
// follows, for a client that has the wrong one never stops. It is owned by one goroutine.
type Budget struct {
	rules   BudgetRules
	refused []unixtime.Time // the newest last
	pending int
	repeats *simplelru.LRU[uint64, *repeat]
	exempt  bool // the backend does not count our refusals
}

// NewBudget returns a budget of which nothing is spent.
func NewBudget(r BudgetRules) *Budget {
	b := &Budget{rules: r}
	b.repeats, _ = simplelru.NewLRU[uint64, *repeat](maxRepeats, nil) // it fails for sizes under 1 only
	return b
}

// Active reports whether the budget limits anything now.
func (b *Budget) Active() bool { return b.rules.Refusals > 0 && !b.exempt }

func (b *Budget) settle(now unixtime.Time) {
	kept := b.refused[:0]
	for _, at := range b.refused {
		if at.Within(b.rules.Window, now) {
			kept = append(kept, at)
		}
	}
	b.refused = kept
}

// Admit decides about a question with a secret that the cache has not seen accepted. Each Pass
// must be followed by a Landed.
func (b *Budget) Admit(secret uint64, now unixtime.Time) Decision {
	if !b.Active() {
		return PassUncounted
	}
	b.settle(now)
	if r, ok := b.repeats.Get(secret); ok {
		// A longer wait than any means that the clock was set back.
		if wait := r.next.Sub(now); wait > 0 && wait <= b.longest() {
			return Blocked
		}
	}
	switch left := b.rules.Refusals - len(b.refused); {
	case left <= 0:
		return Blocked
	case b.pending >= left:
		return Wait
	}
	b.pending++
	return Pass
}

// longest is the longest time for which a refused secret is not asked about.
func (b *Budget) longest() time.Duration { return 16 * b.rules.Window }

// Done takes the end of a question to which Ask said Pass.
func (b *Budget) Done() { b.pending = max(b.pending-1, 0) }

// Refused counts refusals of a user's secret, of which a backend may have several for one
// question.
func (b *Budget) Refused(user, secret uint64, times int, now unixtime.Time) {
	if b.rules.Refusals <= 0 {
		return
	}
	b.settle(now)
	for range min(times, b.rules.Refusals) {
		b.refused = append(b.refused, now)
	}
	if over := len(b.refused) - b.rules.Refusals; over > 0 {
		b.refused = append(b.refused[:0], b.refused[over:]...)
	}
	r, ok := b.repeats.Get(secret)
	if !ok {
		r = &repeat{user: user}
		b.repeats.Add(secret, r)
	}
	pause := b.rules.Window / 2
	for range r.times {
		pause = min(4*pause, b.longest())
	}
	r.times = min(r.times+1, 8)
	r.next = now.Add(pause)
}

// Accepted forgets that a secret was ever refused.
func (b *Budget) Accepted(secret uint64) { b.repeats.Remove(secret) }

// Forget has the secrets of a user asked about again.
func (b *Budget) Forget(user uint64) {
	for _, secret := range b.repeats.Keys() {
		if r, ok := b.repeats.Peek(secret); ok && r.user == user {
			b.repeats.Remove(secret)
		}
	}
}

// Observed takes what the backend says of its own: whether it counts our refusals at all, and
// by how much it delays us for them. A backend that does not delay us has counted none.
func (b *Budget) Observed(exempt bool, delay time.Duration) {
	b.exempt = exempt
	if delay == 0 {
		b.refused = b.refused[:0]
		b.repeats.Purge()
	}
}

// BudgetState is what a Budget has come to.
type BudgetState struct {
	Refusals int // within the window
	Limit    int // 0: no limit
	Exempt   bool
}

// State returns the state now.
func (b *Budget) State(now unixtime.Time) BudgetState {
	b.settle(now)
	return BudgetState{Refusals: len(b.refused), Limit: b.rules.Refusals, Exempt: b.exempt}
}
