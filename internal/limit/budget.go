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
	account uint64
	times   int
	next    unixtime.Time // earliest time of the next question
}

// charge is a refusal, or a question that may come to one.
type charge struct {
	account, from uint64 // as in Guess
	stranger      bool
	at            unixtime.Time // of a refusal
}

func chargeOf(g *Guess) charge { return charge{account: g.Account, from: g.From, stranger: g.Stranger} }

// Budget keeps the refusals that one backend gives to postern within a limit. Only secrets that the
// cache has not seen accepted count: as many of them may be under way as there are refusals left. A
// refused secret may be asked about again after half a window at the earliest, and after four times
// as long with each refusal that follows, since a client with the wrong one never stops.
//
// Nothing uses it up for all: an account has a quarter of it, an address half of it, and accounts
// that are not known to exist half of it together, of which an address has half. A Budget is owned by
// one goroutine.
type Budget struct {
	rules   BudgetRules
	refused []charge // the newest last
	pending []charge
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
	b.refused = slices.DeleteFunc(b.refused, func(c charge) bool { return !c.at.Within(b.rules.Window, now) })
}

// Bound names a part of a Budget that may be used up: the whole, or a share. The zero Bound is none.
type Bound struct {
	of uint8
	id uint64 // of the account or address
}

// What a Bound is the share of.
const (
	ofAll uint8 = iota + 1
	ofAccount
	ofStrangers
	ofAddress
)

// Whole is the bound of all questions.
var Whole = Bound{of: ofAll}

// share is a part of the budget: most of the charges for which has holds.
type share struct {
	bound Bound
	most  int
	has   func(*charge) bool
}

// shares are the parts of the budget that a charge is taken from.
func (b *Budget) shares(c charge) []share {
	all := b.rules.Refusals
	half, quarter := max((all+1)/2, 1), max(all/4, 1)
	list := []share{
		{Whole, all, func(*charge) bool { return true }},
		{Bound{ofAccount, c.account}, quarter, func(o *charge) bool { return o.account == c.account }},
	}
	if c.stranger {
		list = append(list, share{Bound{of: ofStrangers}, half, func(o *charge) bool { return o.stranger }})
	}
	if c.from != 0 {
		most := half
		if c.stranger {
			most = quarter
		}
		list = append(list, share{Bound{ofAddress, c.from}, most, func(o *charge) bool { return o.from == c.from }})
	}
	return list
}

func count(list []charge, has func(*charge) bool) (n int) {
	for i := range list {
		if has(&list[i]) {
			n++
		}
	}
	return n
}

// Strained reports whether a question about an account that is not known to exist has been refused
// within the window: then it pays to find out first whether the account exists.
func (b *Budget) Strained(now unixtime.Time) bool {
	b.expire(now)
	return b.Active() && count(b.refused, func(c *charge) bool { return c.stranger }) > 0
}

// Admit decides about a question with a secret that the cache has not seen accepted. Each Pass
// must be followed by a Done.
func (b *Budget) Admit(g *Guess, now unixtime.Time) Decision {
	if !b.Active() {
		return PassUncounted
	}
	b.expire(now)
	if r, ok := b.repeats.Get(g.Secret); ok {
		// A wait longer than the longest means that the clock was set back.
		if wait := r.next.Sub(now); wait > 0 && wait <= b.longest() {
			return Blocked
		}
	}
	c, wait := chargeOf(g), false
	for _, s := range b.shares(c) {
		left := s.most - count(b.refused, s.has)
		if left <= 0 {
			return Blocked
		}
		wait = wait || count(b.pending, s.has) >= left
	}
	if wait {
		return Wait
	}
	b.pending = append(b.pending, c)
	return Pass
}

// WaitsFor is what a question waits for after Admit has returned Wait: the narrowest of the bounds that are
// used up.
func (b *Budget) WaitsFor(g *Guess) (bound Bound) {
	for _, s := range b.shares(chargeOf(g)) {
		if count(b.pending, s.has) >= s.most-count(b.refused, s.has) {
			bound = s.bound
		}
	}
	return bound
}

// Bounds are those in which Done makes room for another question.
func (b *Budget) Bounds(g *Guess) (bounds []Bound) {
	for _, s := range b.shares(chargeOf(g)) {
		bounds = append(bounds, s.bound)
	}
	return bounds
}

// longest is the longest pause between two questions about a refused secret.
func (b *Budget) longest() time.Duration { return 16 * b.rules.Window }

// Done ends a question that Admit let Pass.
func (b *Budget) Done(g *Guess) {
	if i := slices.Index(b.pending, chargeOf(g)); i >= 0 {
		b.pending = slices.Delete(b.pending, i, i+1)
	}
}

// Refused counts refusals of an account's secret. One question may cause several at a backend.
func (b *Budget) Refused(g *Guess, times int, now unixtime.Time) {
	if b.rules.Refusals <= 0 {
		return
	}
	b.expire(now)
	c := chargeOf(g)
	c.at = now
	for range min(times, b.rules.Refusals) {
		b.refused = append(b.refused, c)
	}
	b.refused = slices.Delete(b.refused, 0, max(len(b.refused)-b.rules.Refusals, 0))
	r, ok := b.repeats.Get(g.Secret)
	if !ok {
		r = &repeat{account: g.Account}
		b.repeats.Add(g.Secret, r)
	}
	pause := b.rules.Window / 2
	for range r.times {
		pause = min(4*pause, b.longest())
	}
	r.times = min(r.times+1, 8)
	r.next = now.Add(pause)
}

// Learn counts refusals that another process has sent, at a time: the budget is that of all processes.
func (b *Budget) Learn(account, from uint64, e *Event, at, now unixtime.Time) {
	if b.rules.Refusals <= 0 || !at.Within(b.rules.Window, now) {
		return
	}
	b.expire(now)
	c := charge{account: account, from: from, stranger: e.Stranger, at: at}
	for range min(e.Charges, b.rules.Refusals) {
		b.refused = append(b.refused, c)
	}
	b.refused = slices.Delete(b.refused, 0, max(len(b.refused)-b.rules.Refusals, 0))
}

// Accepted forgets that a secret was ever refused.
func (b *Budget) Accepted(secret uint64) { b.repeats.Remove(secret) }

// Forget lifts the pauses of an account's secrets, and gives it its share again.
func (b *Budget) Forget(account uint64) {
	for i := range b.refused {
		if b.refused[i].account == account {
			b.refused[i].account = 0
		}
	}
	for _, secret := range b.repeats.Keys() {
		if r, ok := b.repeats.Peek(secret); ok && r.account == account {
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
