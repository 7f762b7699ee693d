package memory

import (
	"net/netip"
	"testing"
	"time"

	"postern/internal/limit"
	"postern/internal/unixtime"
)

var addressRules = limit.Rules{Refusals: 3, Window: time.Hour, First: time.Minute, Longest: time.Hour, InFlight: 2}

func network(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 32)
}

// TestAddressesOfTheMachine: a network's refusals are counted once for all domains, each of which
// judges by its own rules.
func TestAddressesOfTheMachine(t *testing.T) {
	a, now := newAddresses(), unixtime.At(time.Now())
	end, from := now.Add(time.Minute), network(1)
	strict := limit.Rules{Refusals: 2, Window: time.Minute, First: time.Minute, Longest: 10 * time.Minute}
	a.refused(from, 1, 0, &addressRules, now)
	a.refused(network(2), 1, 0, &addressRules, now)
	now = now.Add(2 * time.Minute) // beyond the window of the strict rules, within that of the others
	if d := a.ask(from, 9, &strict, now, end.Add(time.Hour)); d != limit.Pass {
		t.Errorf("by the strict rules: %v", d)
	}
	a.landed(from, &strict, now)
	if a.refused(from, 2, 0, &strict, now) {
		t.Error("a refusal outside of the strict rules' window counts by them")
	}
	if !a.refused(from, 3, 0, &addressRules, now) {
		t.Error("the third refusal of one network begins no pause")
	}
	for name, rules := range map[string]*limit.Rules{"strict": &strict, "other": &addressRules} {
		if d := a.ask(from, 9, rules, now, end); d != limit.Blocked {
			t.Errorf("a limited network, by the %s rules: %v", name, d)
		}
	}
	limited, watched := a.List(10, now)
	if len(limited) != 1 || limited[0].Name != from.String() || watched != 1 {
		t.Errorf("limited: %+v, watched: %d", limited, watched)
	}
	if s := a.Show(from, now); s.Refusals != 3 || s.Pauses != 1 || s.Until != now.Add(time.Minute) {
		t.Errorf("%+v", s)
	}
	if !a.Forget(from) || a.Forget(from) {
		t.Error("what there is to forget")
	}
	if s, other := a.Show(from, now), a.Show(network(2), now); s.Refusals != 0 || other.Refusals != 1 {
		t.Errorf("forgotten: %+v; another network: %+v", s, other)
	}
}

// TestAddressesInFlight: so many questions of a network may be under way beyond the refusals left.
func TestAddressesInFlight(t *testing.T) {
	a, now := newAddresses(), unixtime.At(time.Now())
	end := now.Add(time.Minute)
	passed := 0
	for secret := range uint64(20) {
		if a.ask(network(1), secret, &addressRules, now, end) == limit.Pass {
			passed++
		}
	}
	if passed == 0 || passed == 20 {
		t.Fatalf("%d of 20 passed", passed)
	}
	if d := a.ask(network(1), 30, &addressRules, now, end); d != limit.Wait {
		t.Errorf("one more: %v", d)
	}
	a.landed(network(1), &addressRules, now)
	if d := a.ask(network(1), 30, &addressRules, now, end); d != limit.Pass {
		t.Errorf("after one has landed: %v", d)
	}
}

// TestAddressesWithoutLimit: where no refusals are limited, none are counted.
func TestAddressesWithoutLimit(t *testing.T) {
	a, now, none := newAddresses(), unixtime.At(time.Now()), limit.Rules{}
	for secret := range uint64(100) {
		if d := a.ask(network(1), secret, &none, now, now.Add(time.Minute)); d != limit.PassUncounted {
			t.Fatalf("%v", d)
		}
		if a.refused(network(1), secret, 0, &none, now) {
			t.Fatal("a pause begins")
		}
	}
	if limited, watched := a.List(1, now); len(limited)+watched != 0 {
		t.Errorf("%d and %d are kept", len(limited), watched)
	}
}

// TestAddressesList bounds what it lists, but not what it counts.
func TestAddressesList(t *testing.T) {
	a, now := newAddresses(), unixtime.At(time.Now())
	const n = 400
	for i := range n {
		for secret := range uint64(3) {
			a.refused(network(i), secret, 0, &addressRules, now)
		}
		a.refused(network(n+i), 1, 0, &addressRules, now)
	}
	limited, watched := a.List(2, now)
	if len(limited) > 2*addressParts || len(limited) == 0 || watched != n {
		t.Errorf("%d limited, %d watched", len(limited), watched)
	}
	if limited, _ = a.List(n, now); len(limited) != n {
		t.Errorf("%d limited, want %d", len(limited), n)
	}
}
