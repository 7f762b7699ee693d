package limit

import (
	"slices"
	"testing"
	"time"
)

// of is a guess at an account that is known to exist, with one secret.
func of(secret uint64) *Guess { return &Guess{Account: secret, Secret: secret} }

var eight = BudgetRules{Refusals: 8, Window: 30 * time.Minute}

// TestBudget: eight refusals in half an hour, then nothing until the first of them is over.
func TestBudget(t *testing.T) {
	b, now := NewBudget(eight), base
	for i := range 8 {
		if d := b.Admit(of(uint64(i)), now); d != Pass {
			t.Fatalf("question %d: %v", i, d)
		}
		b.Done(of(uint64(i)))
		b.Refused(of(uint64(i)), 1, now)
		now = now.Add(time.Minute)
	}
	if d := b.Admit(of(99), now); d != Blocked {
		t.Errorf("the ninth: %v", d)
	}
	if s := b.State(now); s.Refusals != 8 || s.Limit != 8 || s.Exempt {
		t.Errorf("%+v", s)
	}
	now = base.Add(30*time.Minute - time.Millisecond)
	if d := b.Admit(of(99), now); d != Blocked {
		t.Errorf("just before the first is over: %v", d)
	}
	now = now.Add(time.Millisecond)
	if d := b.Admit(of(99), now); d != Pass {
		t.Errorf("when the first is over: %v", d)
	}
	if d := b.Admit(of(98), now); d != Wait {
		t.Errorf("beside the one that is left: %v", d)
	}
	b.Done(of(99))
	b.Accepted(99)
	if d := b.Admit(of(98), now); d != Pass {
		t.Errorf("after an acceptance: %v", d)
	}
	// A clock that is set back must not keep the budget spent.
	b.Done(of(98))
	for i := range 8 {
		b.Refused(of(uint64(i)), 1, now)
	}
	if d := b.Admit(of(97), now.Add(-24*time.Hour)); d != Pass {
		t.Errorf("a day earlier: %v", d)
	}
}

// TestShares: neither an account, nor an address, nor accounts that are not known to exist use up the
// budget.
func TestShares(t *testing.T) {
	for name, c := range map[string]struct {
		guess func(i uint64) *Guess
		want  int
	}{
		"one account":                   {func(i uint64) *Guess { return &Guess{Account: 1, Secret: i} }, 2},
		"known accounts":                {of, 8},
		"known accounts, one address":   {func(i uint64) *Guess { return &Guess{Account: i, Secret: i, From: 5} }, 4},
		"invented names":                {func(i uint64) *Guess { return &Guess{Account: i, Secret: i, Stranger: true} }, 4},
		"invented names, one address":   {func(i uint64) *Guess { return &Guess{Account: i, Secret: i, From: 5, Stranger: true} }, 2},
		"invented names, many of these": {func(i uint64) *Guess { return &Guess{Account: i, Secret: i, From: i, Stranger: true} }, 4},
	} {
		b, n := NewBudget(eight), 0
		for i := range uint64(50) {
			g := c.guess(i + 1)
			switch d := b.Admit(g, base); d {
			case Pass:
				b.Done(g)
				b.Refused(g, 1, base)
				n++
			case Wait:
				t.Errorf("%s: one has to wait for nothing", name)
			}
		}
		if n != c.want {
			t.Errorf("%s: %d refusals, want %d", name, n, c.want)
		}
		if d := b.Admit(of(99), base); (d == Pass) != (n < 8) {
			t.Errorf("%s: another one then: %v", name, d)
		}
		if strained := c.guess(1).Stranger; b.Strained(base) != strained || b.Strained(base.Add(eight.Window)) {
			t.Errorf("%s: strained: %t", name, !strained)
		}
		parallel, passed := NewBudget(eight), 0
		for i := range uint64(50) {
			if parallel.Admit(c.guess(i+1), base) == Pass {
				passed++
			}
		}
		if passed != c.want {
			t.Errorf("%s: %d at once, want %d", name, passed, c.want)
		}
	}
}

// TestBudgetParallel: as many are under way as there are refusals left.
func TestBudgetParallel(t *testing.T) {
	b := NewBudget(eight)
	b.Refused(of(1), 3, base) // one question, three login names
	for i := range 5 {
		if d := b.Admit(of(uint64(10+i)), base); d != Pass {
			t.Fatalf("question %d: %v", i, d)
		}
	}
	if d := b.Admit(of(20), base); d != Wait {
		t.Errorf("one more: %v", d)
	}
	for i := range 9 { // more than were put, as after a restart
		b.Done(of(uint64(10 + i)))
	}
	if d := b.Admit(of(20), base); d != Pass {
		t.Errorf("when all have landed: %v", d)
	}
}

// TestRepeats: one stale password costs two refusals in the first hour and four in twelve.
func TestRepeats(t *testing.T) {
	b := NewBudget(eight)
	var asked []time.Duration
	for at := time.Duration(0); at < 48*time.Hour; at += 10 * time.Second {
		now := base.Add(at)
		if b.Admit(of(1), now) == Pass {
			b.Done(of(1))
			b.Refused(of(1), 1, now)
			asked = append(asked, at)
		}
		if d := b.Admit(of(uint64(at)), now); at > 0 && d != Pass {
			t.Fatalf("at %v others: %v", at, d)
		}
		if at > 0 {
			b.Done(of(uint64(at)))
		}
	}
	want := []time.Duration{0, 15 * time.Minute, 75 * time.Minute, 315 * time.Minute, 795 * time.Minute}
	for i, at := range want {
		if len(asked) <= i || asked[i] != at {
			t.Fatalf("asked at %v, want first %v", asked, want)
		}
	}
	for i := range asked {
		n := 0
		for _, at := range asked[i:] {
			if at < asked[i]+12*time.Hour {
				n++
			}
		}
		if n > 4 {
			t.Errorf("%d refusals within 12 h from %v", n, asked[i])
		}
	}
	// The backend's word counts more: one that does not delay us has counted none of it.
	now := base.Add(asked[len(asked)-1])
	if d := b.Admit(of(1), now); d != Blocked {
		t.Fatalf("right after the last: %v", d)
	}
	b.Observed(false, 200*time.Millisecond)
	if d := b.Admit(of(1), now); d != Blocked {
		t.Errorf("while it delays us: %v", d)
	}
	b.Observed(false, 0)
	if d := b.Admit(of(1), now); d != Pass {
		t.Errorf("when it does not: %v", d)
	}
	b.Done(of(1))
	b.Refused(of(1), 1, now)
	b.Refused(of(2), 1, now)
	b.Forget(1)
	if d, other := b.Admit(of(1), now), b.Admit(of(2), now); d != Pass || other != Blocked {
		t.Errorf("forgotten: %v, and another's: %v", d, other)
	}
	b.Refused(of(1), 1, now)
	if d := b.Admit(of(1), now.Add(-24*time.Hour)); d != Pass {
		t.Errorf("a day earlier: %v", d)
	}
}

// TestExempt: a backend that does not count our refusals needs no budget, until it does.
func TestExempt(t *testing.T) {
	b := NewBudget(eight)
	b.Observed(true, 0)
	for i := range 100 {
		if d := b.Admit(of(1), base); d != PassUncounted {
			t.Fatalf("question %d: %v", i, d)
		}
		b.Refused(of(1), 1, base)
	}
	if s := b.State(base); !s.Exempt || b.Active() {
		t.Errorf("%+v", s)
	}
	b.Observed(false, time.Second)
	if d := b.Admit(of(1), base); d != Blocked {
		t.Errorf("no longer exempt: %v", d)
	}
	off := NewBudget(BudgetRules{})
	off.Refused(of(1), 1, base)
	if d := off.Admit(of(1), base); d != PassUncounted || off.Active() {
		t.Errorf("without a budget: %v", d)
	}
}

// TestBudgetMemory: secrets without end do not grow it.
func TestBudgetMemory(t *testing.T) {
	b := NewBudget(eight)
	for i := range 100_000 {
		b.Refused(of(uint64(i)), 50, base)
	}
	if len(b.refused) != 8 || b.repeats.Len() != maxRepeats {
		t.Errorf("%d refusals, %d secrets", len(b.refused), b.repeats.Len())
	}
}

// TestWaitsFor: a question waits for the narrowest part of the budget that is used up, and the end of
// another one in that part makes room for it.
func TestWaitsFor(t *testing.T) {
	stranger := func(account, from uint64) *Guess {
		return &Guess{Account: account, Secret: account, From: from, Stranger: true}
	}
	for name, c := range map[string]struct {
		underWay []*Guess
		next     *Guess
		want     Bound
	}{
		"all":       {[]*Guess{of(1), of(2), of(3), of(4), of(5), of(6), of(7), of(8)}, of(9), Whole},
		"account":   {[]*Guess{of(1), of(1)}, of(1), Bound{ofAccount, 1}},
		"address":   {[]*Guess{{Account: 1, From: 7}, {Account: 2, From: 7}, {Account: 3, From: 7}, {Account: 4, From: 7}}, &Guess{Account: 5, From: 7}, Bound{ofAddress, 7}},
		"strangers": {[]*Guess{stranger(1, 0), stranger(2, 0), stranger(3, 0), stranger(4, 0)}, stranger(5, 0), Bound{of: ofStrangers}},
		"narrowest": {[]*Guess{of(1), of(1), of(3), of(4), of(5), of(6), of(7), of(8)}, of(1), Bound{ofAccount, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBudget(eight)
			for _, g := range c.underWay {
				if d := b.Admit(g, base); d != Pass {
					t.Fatalf("%+v: %v", g, d)
				}
			}
			if d := b.Admit(c.next, base); d != Wait || b.WaitsFor(c.next) != c.want {
				t.Fatalf("%v for %v, want %v", d, b.WaitsFor(c.next), c.want)
			}
			first := c.underWay[0]
			if !slices.Contains(b.Bounds(first), c.want) {
				t.Errorf("the end of one makes room in %v", b.Bounds(first))
			}
			b.Done(first)
			if d := b.Admit(c.next, base); d != Pass {
				t.Errorf("after the end of one: %v", d)
			}
		})
	}
}
