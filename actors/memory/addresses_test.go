package memory

import (
	"fmt"
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

// TestAddressesByDomain: a network's refusals are counted in each domain by itself, and forgotten in
// all.
func TestAddressesByDomain(t *testing.T) {
	a, now := newAddresses(), unixtime.At(time.Now())
	from := network(1)
	for secret := range uint64(3) {
		begins := a.refused("a.example", from, secret, &addressRules, now)
		if begins != (secret == 2) {
			t.Errorf("refusal %d: a pause begins: %t", secret+1, begins)
		}
	}
	a.refused("b.example", from, 1, &addressRules, now)
	a.refused("a.example", network(2), 1, &addressRules, now)
	end := now.Add(time.Minute)
	if d := a.ask("a.example", from, 9, &addressRules, now, end); d != limit.Blocked {
		t.Errorf("a limited network: %v", d)
	}
	for domain, from := range map[string]netip.Prefix{"b.example": from, "a.example": network(2)} {
		if d := a.ask(domain, from, 9, &addressRules, now, end); d != limit.Pass {
			t.Errorf("%v in %s: %v", from, domain, d)
		}
		a.landed(domain, from, &addressRules, now)
	}
	limited, watched := a.List("a.example", 10, &addressRules, now)
	if len(limited) != 1 || limited[0].Name != from.String() || watched != 1 {
		t.Errorf("limited: %+v, watched: %d", limited, watched)
	}
	if s := a.Show("a.example", from, &addressRules, now); s.Refusals != 3 || s.Pauses != 1 {
		t.Errorf("%+v", s)
	}
	a.Forget(from)
	for _, domain := range []string{"a.example", "b.example"} {
		if s := a.Show(domain, from, &addressRules, now); s.Refusals != 0 || s.Pauses != 0 {
			t.Errorf("%s: %+v", domain, s)
		}
	}
	if s := a.Show("a.example", network(2), &addressRules, now); s.Refusals != 1 {
		t.Errorf("another network: %+v", s)
	}
}

// TestAddressesInFlight: so many questions of a network may be under way beyond the refusals left.
func TestAddressesInFlight(t *testing.T) {
	a, now := newAddresses(), unixtime.At(time.Now())
	end := now.Add(time.Minute)
	passed := 0
	for secret := range uint64(20) {
		if a.ask("a.example", network(1), secret, &addressRules, now, end) == limit.Pass {
			passed++
		}
	}
	if passed == 0 || passed == 20 {
		t.Fatalf("%d of 20 passed", passed)
	}
	if d := a.ask("a.example", network(1), 30, &addressRules, now, end); d != limit.Wait {
		t.Errorf("one more: %v", d)
	}
	a.landed("a.example", network(1), &addressRules, now)
	if d := a.ask("a.example", network(1), 30, &addressRules, now, end); d != limit.Pass {
		t.Errorf("after one has landed: %v", d)
	}
}

// TestAddressesWithoutLimit: where no refusals are limited, none are counted.
func TestAddressesWithoutLimit(t *testing.T) {
	a, now, none := newAddresses(), unixtime.At(time.Now()), limit.Rules{}
	for secret := range uint64(100) {
		if d := a.ask("a.example", network(1), secret, &none, now, now.Add(time.Minute)); d != limit.PassUncounted {
			t.Fatalf("%v", d)
		}
		if a.refused("a.example", network(1), secret, &none, now) {
			t.Fatal("a pause begins")
		}
	}
	for i := range a.parts {
		if n := len(a.parts[i].tables); n != 0 {
			t.Errorf("%d tables", n)
		}
	}
}

// TestAddressesList bounds what it lists, but not what it counts.
func TestAddressesList(t *testing.T) {
	a, now := newAddresses(), unixtime.At(time.Now())
	const n = 400
	for i := range n {
		for secret := range uint64(3) {
			a.refused("a.example", network(i), secret, &addressRules, now)
		}
		a.refused("a.example", network(n+i), 1, &addressRules, now)
	}
	limited, watched := a.List("a.example", 2, &addressRules, now)
	if len(limited) > 2*addressParts || len(limited) == 0 || watched != n {
		t.Errorf("%d limited, %d watched", len(limited), watched)
	}
	if limited, _ = a.List("a.example", n, &addressRules, now); len(limited) != n {
		t.Errorf("%d limited, want %d", len(limited), n)
	}
	if limited, watched = a.List("b.example", n, &addressRules, now); len(limited)+watched != 0 {
		t.Error("another domain has some")
	}
}

// TestAddressesPrune forgets the domains that are not served any more.
func TestAddressesPrune(t *testing.T) {
	a, now := newAddresses(), unixtime.At(time.Now())
	for i := range 50 {
		for _, domain := range []string{"a.example", "b.example"} {
			a.refused(domain, network(i), 1, &addressRules, now)
		}
	}
	a.prune(func(name string) bool { return name == "b.example" })
	got := make(map[string]int)
	for _, domain := range []string{"a.example", "b.example"} {
		_, got[domain] = a.List(domain, 1, &addressRules, now)
	}
	if fmt.Sprint(got) != "map[a.example:0 b.example:50]" {
		t.Errorf("%v", got)
	}
}
