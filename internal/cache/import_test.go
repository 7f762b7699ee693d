package cache

import (
	"testing"
	"time"

	"postern/internal/unixtime"
)

// TestAdopt: what was learnt here counts for more than what is older, and nothing that is taken
// over lives longer than it would have.
func TestAdopt(t *testing.T) {
	const minute = unixtime.Time(60_000)
	now := 1000 * minute
	rules := Rules{Hashed: true, Query: time.Hour, Verify: 24 * time.Hour, Outage: 168 * time.Hour, Secrets: 2}
	foreign := func(hash string, at unixtime.Time) Verifier {
		return Verifier{Hash: hash, First: at - minute, Verified: at, Used: at + minute}
	}
	var u User
	if !u.Import(foreign("a", now-9*minute), 2, now) || len(u.Verifiers) != 1 || u.Verifiers[0].Used != now-8*minute || !u.Verifiers[0].fresh(&rules, "", now) {
		t.Fatalf("a first one: %+v", u)
	}
	if u.Import(foreign("a", now-5*minute), 2, now) || len(u.Verifiers) != 1 || u.Verifiers[0].Verified != now-9*minute {
		t.Errorf("the same one again: %+v", u)
	}
	if u.Import(foreign("b", now-9*minute), 2, now) || u.Import(foreign("b", now-20*minute), 2, now) || len(u.Verifiers) != 1 {
		t.Errorf("one that is no newer: %+v", u)
	}
	if !u.Import(foreign("c", now-3*minute), 2, now) || len(u.Verifiers) != 2 || !u.Verifiers[0].Stale || u.Verifiers[1].Stale {
		t.Errorf("a newer one: %+v", u)
	}
	if !u.Import(foreign("d", now+99*minute), 2, now) || len(u.Verifiers) != 2 {
		t.Fatalf("one of the future: %+v", u)
	}
	d := u.Verifiers[1]
	if d.Hash != "d" || d.First > now || d.Verified != now || d.Used != now {
		t.Errorf("moments of the future were believed: %+v", d)
	}
	if u.Import(Verifier{Verified: now}, 2, now+minute) {
		t.Error("one without a hash was taken")
	}
}
