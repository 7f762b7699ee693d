package cache

import (
	"testing"

	"postern/internal/unixtime"
)

// TestCombine: each store's verifiers count unless a change that the store has missed came later.
func TestCombine(t *testing.T) {
	at := func(n int, minutes int, shape ...func(*Verifier)) Verifier {
		v := ofHash(n)
		v.Verified = sharedNow + unixtime.Time(minutes*60_000)
		for _, do := range shape {
			do(&v)
		}
		return v
	}
	stale := func(v *Verifier) { v.Stale = true }
	minute := func(n int) unixtime.Time { return sharedNow + unixtime.Time(n*60_000) }
	for name, c := range map[string]struct {
		a, b             []Verifier
		missedA, missedB unixtime.Time
		want             string
		dropped          int
	}{
		"one":                {a: []Verifier{at(0, 1)}, want: "a"},
		"both":               {a: []Verifier{at(0, 1)}, b: []Verifier{at(1, 2)}, want: "a b"},
		"the same":           {a: []Verifier{at(0, 1)}, b: []Verifier{at(0, 1)}, want: "a"},
		"a doubt":            {a: []Verifier{at(0, 1)}, b: []Verifier{at(0, 1, stale)}, want: "a!"},
		"a doubt that ended": {a: []Verifier{at(0, 2)}, b: []Verifier{at(0, 1, stale)}, want: "a"},
		"a newer doubt":      {a: []Verifier{at(0, 1)}, b: []Verifier{at(0, 2, stale)}, want: "a!"},
		"changed since":      {a: []Verifier{at(0, 1), at(1, 3)}, missedA: minute(2), want: "b", dropped: 1},
		"changed just then":  {a: []Verifier{at(0, 2)}, missedA: minute(2), want: "", dropped: 1},
		"the other way":      {a: []Verifier{at(0, 1)}, b: []Verifier{at(1, 1)}, missedB: minute(2), want: "a", dropped: 1},
	} {
		got, dropped := Combine(&User{Verifiers: c.a}, &User{Verifiers: c.b}, c.missedA, c.missedB)
		if text := describe(got); text != c.want || dropped != c.dropped {
			t.Errorf("%s: %q, %d dropped", name, text, dropped)
		}
	}
	exists := func(minutes int) *User {
		return &User{Exists: Existence{Known: true, Yes: true, At: minute(minutes)}}
	}
	for name, c := range map[string]struct {
		a, b    *User
		missedA unixtime.Time
		want    unixtime.Time
	}{
		"the newer":     {exists(1), exists(2), 0, minute(2)},
		"changed since": {exists(2), exists(1), minute(3), minute(1)},
		"none":          {exists(2), new(User), minute(3), 0},
	} {
		if got, _ := Combine(c.a, c.b, c.missedA, 0); got.Exists.At != c.want {
			t.Errorf("existence, %s: %v", name, got.Exists.At)
		}
	}
	var many User
	for n := range maxMerged + 4 {
		many.Verifiers = append(many.Verifiers, at(n, 1, func(v *Verifier) { v.Used += unixtime.Time(n) }))
	}
	if got, _ := Combine(&many, new(User), 0, 0); len(got.Verifiers) != maxMerged || got.Verifiers[0].Hash != hashNo(maxMerged+3) {
		t.Errorf("%d verifiers, first %s", len(got.Verifiers), got.Verifiers[0].Hash)
	}
}
