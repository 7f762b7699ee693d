package limit

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// TestSaved: limits that were saved and restored decide as they would have without that.
func TestSaved(t *testing.T) {
	w := newAccountWorld(t)
	b := NewBudget(BudgetRules{Refusals: 20, Window: time.Hour})
	w.login(9, w.right)
	for i := range 14 {
		w.now = w.now.Add(time.Second)
		w.guess(uint64(i % 3))
		g := &Guess{Account: 7, Secret: uint64(100 + i%5), From: 4, Stranger: i%2 == 0, Rules: w.rules}
		if b.Admit(g, w.now) == Pass {
			b.Done(g)
			b.Refused(g, 1, w.now)
		}
	}
	b.Observed(true, time.Second)
	w.Accepted(&Guess{Account: 70, Secret: 5, Rules: w.rules}, 7) // by another name
	copied := *w
	copied.Accounts = NewAccounts()
	saved, spent := w.Save(), b.Save()
	copied.Restore(saved)
	other := NewBudget(b.rules)
	other.Restore(spent)
	if got := copied.Save(); !reflect.DeepEqual(got, saved) {
		t.Errorf("restored\n%+v, want\n%+v", got, saved)
	}
	if got := other.Save(); !reflect.DeepEqual(got, spent) || len(spent.Refused) == 0 || len(spent.Repeats) == 0 {
		t.Errorf("restored\n%+v, want\n%+v", got, spent)
	}
	for i := range 200 {
		w.now = w.now.Add(7 * time.Second)
		copied.now = w.now
		a, b := w.guess(uint64(i%3)), copied.guess(uint64(i%3))
		if a != b || w.State(7, w.now) != copied.State(7, w.now) {
			t.Fatalf("guess %d: %v and %v, %+v and %+v", i, a, b, w.State(7, w.now), copied.State(7, w.now))
		}
	}
}

// TestSavedBounds: what is restored keeps the bounds, whatever it says.
func TestSavedBounds(t *testing.T) {
	many := make([]uint64, 100)
	a := NewAccounts()
	a.Restore(SavedAccounts{
		Tallies: []SavedTally[uint64]{{Of: 1, Level: -5, Marks: []SavedMark{{Secret: 1}}}},
		Known:   []SavedKnown{{Account: 1, Secrets: many}, {Account: 2}},
		Trials:  []SavedTrials{{Account: 1, Suspects: []SavedSuspect{{From: 1, Secrets: many}}}},
	})
	w := newAccountWorld(t)
	w.Accounts = a
	for range 30 {
		w.guess(1)
	}
	if s := a.Save(); len(s.Known[0].Secrets) > maxKnownSecrets || len(s.Trials) > 0 && len(s.Trials[0].Suspects) > maxSuspects {
		t.Errorf("%+v", s)
	}
	b := NewBudget(BudgetRules{Refusals: 3, Window: time.Hour})
	b.Restore(SavedBudget{Refused: make([]SavedCharge, 10), Repeats: []SavedRepeat{{Secret: 1, Times: 1 << 40}}})
	if s := b.Save(); len(s.Refused) > 3 || s.Repeats[0].Times > 8 {
		t.Errorf("%+v", s)
	}
	NewBudget(BudgetRules{}).Restore(SavedBudget{Refused: make([]SavedCharge, 10)})
}

// TestSeed: numbers differ by name and by seed, and none is 0.
func TestSeed(t *testing.T) {
	a, b := NewSeed(), NewSeed()
	seen := map[uint64]bool{0: true}
	for i := range 100 {
		name := []byte(fmt.Sprint("name", i))
		sum := a.Sum(name)
		for _, n := range []uint64{sum, b.Sum(name)} {
			if seen[n] {
				t.Fatalf("%d stands for two", n)
			}
			seen[n] = true
		}
		if a.Sum(name) != sum {
			t.Fatal("a name has two numbers")
		}
	}
}
