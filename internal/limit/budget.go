package limit

import (
	"slices"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/internal/unixtime"
)

// BudgetRules are the limits of a Budget. The zero BudgetRules limit nothing.
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
	next  unixtime.Time // earliest time of the next question
}

// Budget keeps the refusals that one backend gives to postern within a limit. Only secrets that the
// cache has not seen accepted count: as many of them may be under way as there are refusals left. A
// refused secret may be asked about again after half a window at the earliest, and after four times
// as long with each refusal that follows, since a client with the wrong one never stops. A Budget is
// owned by one goroutine.
type Budget struct {
	rules   BudgetRules
	refused []unixtime.Time // the newest last
	pending int
	repeats *simplelru.LRU[uint64, *repeat]
	exempt  bool // the backend does not count refusals of postern
}

// NewBudget returns a budget without refusals.
func NewBudget(r BudgetRules) *Budget {
	b := &Budget{rules: r}
	b.repeats, _ = simplelru.NewLRU[uint64, *repeat](maxRepeats, nil) // it fails for sizes under 1 only
	return b
}

// Active reports whether the budget limits anything at present.
func (b *Budget) Active() bool { return b.rules.Refusals > 0 && !b.exempt }

func (b *Budget) expire(now unixtime.Time) {
	b.refused = slices.DeleteFunc(b.refused, func(at unixtime.Time) bool { return !at.Within(b.rules.Window, now) })
}

// Admit decides about a question with a secret that the cache has not seen accepted. Each Pass
// must be followed by a Done.
func (b *Budget) Admit(secret uint64, now unixtime.Time) Decision {
	if !b.Active() {
		return PassUncounted
	}
	b.expire(now)
	if r, ok := b.repeats.Get(secret); ok {
		// A wait longer than the longest means that the clock was set back.
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

// longest is the longest pause between two questions about a refused secret.
func (b *Budget) longest() time.Duration { return 16 * b.rules.Window }

// Done ends a question that Admit let Pass.
func (b *Budget) Done() { b.pending = max(b.pending-1, 0) }

// Refused counts refusals of a user's secret. One question may cause several at a backend.
func (b *Budget) Refused(user, secret uint64, times int, now unixtime.Time) {
	if b.rules.Refusals <= 0 {
		return
	}
	b.expire(now)
	for range min(times, b.rules.Refusals) {
		b.refused = append(b.refused, now)
	}
	b.refused = slices.Delete(b.refused, 0, max(len(b.refused)-b.rules.Refusals, 0))
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

// Forget lifts the pauses of a user's secrets.
func (b *Budget) Forget(user uint64) {
	for _, secret := range b.repeats.Keys() {
		if r, ok := b.repeats.Peek(secret); ok && r.user == user {
			b.repeats.Remove(secret)
		}
	}
}

// Observed notes the backend's own report: whether it exempts postern from its limits, and by how
// much it delays postern's requests. A backend that does not delay them has counted no refusal.
func (b *Budget) Observed(exempt bool, delay time.Duration) {
	b.exempt = exempt
	if delay == 0 {
		b.refused = b.refused[:0]
		b.repeats.Purge()
	}
}

// BudgetState describes a Budget.
type BudgetState struct {
	Refusals int // within the window
	Limit    int // 0: no limit
	Exempt   bool
}

// State returns the state of the budget.
func (b *Budget) State(now unixtime.Time) BudgetState {
	b.expire(now)
	return BudgetState{Refusals: len(b.refused), Limit: b.rules.Refusals, Exempt: b.exempt}
}
