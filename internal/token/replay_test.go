package token

import (
	"slices"
	"testing"
	"time"
)

func nonce(n byte, expires int64) Nonce { return Nonce{[32]byte{n}, expires} }

// use is one Use and what it must give.
type use struct {
	n     Nonce
	now   int64
	fresh bool
	full  bool
}

func TestReplay(t *testing.T) {
	for _, c := range []struct {
		name string
		uses []use
	}{
		{"twice", []use{{nonce(1, 60), 10, true, false}, {nonce(1, 60), 10, false, false}, {nonce(1, 60), 59, false, false}}},
		{"others", []use{{nonce(1, 60), 10, true, false}, {nonce(2, 60), 10, true, false}, {nonce(3, 90), 31, true, false},
			{nonce(1, 60), 32, false, false}, {nonce(2, 60), 59, false, false}, {nonce(3, 90), 89, false, false}}},
		{"at the last second", []use{{nonce(1, 60), 59, true, false}, {nonce(1, 60), 59, false, false}}},
		{"too late", []use{{nonce(1, 60), 60, false, false}, {nonce(1, 60), 1000, false, false}}},
		{"clock back a little, nothing forgotten", []use{{nonce(1, 90), 50, true, false}, {nonce(1, 90), 40, false, false},
			{nonce(2, 90), 40, true, false}}},
		{"clock back after forgetting", []use{{nonce(1, 60), 59, true, false}, {nonce(2, 90), 60, true, false},
			{nonce(1, 60), 58, false, false}, {nonce(3, 60), 58, false, false}, {nonce(4, 90), 58, true, false}}},
		{"clock far ahead for a moment", []use{{nonce(1, 90), 50, true, false}, {nonce(2, 100_000), 99_950, true, false},
			{nonce(1, 90), 51, false, false}, {nonce(3, 90), 51, false, false}, {nonce(4, 120), 61, true, false}}},
		{"a step that lives longer on", []use{{nonce(1, 60), 50, true, false}, {nonce(1, 90), 55, false, false},
			{nonce(1, 90), 70, false, false}, {nonce(1, 90), 89, false, false}}},
		{"a seen nonce never lives shorter", []use{{nonce(1, 90), 50, true, false}, {nonce(1, 60), 55, false, false},
			{nonce(1, 90), 89, false, false}}},
		{"full", []use{{nonce(1, 60), 1, true, false}, {nonce(2, 60), 1, true, false}, {nonce(3, 60), 1, true, false},
			{nonce(4, 90), 31, true, false}, {nonce(5, 90), 59, false, true}, {nonce(4, 90), 59, false, false},
			{nonce(5, 90), 60, true, false}, {nonce(1, 60), 59, false, false}, {nonce(5, 90), 61, false, false}}},
	} {
		r := NewReplay(4)
		for i, u := range c.uses {
			if fresh, full := r.Use(u.n, time.Unix(u.now, 0)); fresh != u.fresh || full != u.full {
				t.Errorf("%s, use %d: fresh %v, full %v; want %v, %v", c.name, i, fresh, full, u.fresh, u.full)
			}
		}
	}
}

// TestReplayForgets: what is held does not depend on how many tokens there ever were.
func TestReplayForgets(t *testing.T) {
	r := NewReplay(0)
	for now := range int64(3000) {
		n := nonce(0, (now/30+2)*30)
		n.ID[1], n.ID[2] = byte(now), byte(now>>8)
		if fresh, full := r.Use(n, time.Unix(now, 0)); !fresh || full {
			t.Fatalf("second %d: fresh %v, full %v", now, fresh, full)
		}
		if r.count > 90 || len(r.steps) > 3 {
			t.Fatalf("second %d: %d nonces in %d steps are held", now, r.count, len(r.steps))
		}
	}
	if got := snapshot(r, time.Unix(3100, 0)); len(got) != 0 || r.count != 0 || len(r.steps) != 0 {
		t.Errorf("%d nonces and %d steps left at the end", len(got), len(r.steps))
	}
}

func TestReplayDefaultLimit(t *testing.T) {
	for _, limit := range []int{0, -1} {
		if r := NewReplay(limit); r.max != defaultReplayNonces {
			t.Errorf("limit %d gives %d", limit, r.max)
		}
	}
}

// snapshot returns the nonces that are still needed at the time now, in no order.
func snapshot(r *Replay, now time.Time) (all []Nonce) {
	r.forget(now.Unix())
	for expires, ids := range r.steps {
		for id := range ids {
			all = append(all, Nonce{id, expires})
		}
	}
	return all
}

func TestReplaySurvivesRestart(t *testing.T) {
	old := NewReplay(4)
	for _, n := range []Nonce{nonce(2, 90), nonce(1, 60), nonce(3, 90)} {
		old.Use(n, time.Unix(35, 0))
	}
	saved := snapshot(old, time.Unix(60, 0))
	slices.SortFunc(saved, func(a, b Nonce) int { return int(a.ID[0]) - int(b.ID[0]) })
	if !slices.Equal(saved, []Nonce{nonce(2, 90), nonce(3, 90)}) {
		t.Fatalf("saved %v", saved)
	}
	r := NewReplay(4)
	for _, n := range saved {
		r.Restore(n)
		r.Restore(n)
	}
	for _, u := range []use{{nonce(2, 90), 61, false, false}, {nonce(3, 90), 89, false, false}, {nonce(4, 90), 89, true, false}} {
		if fresh, full := r.Use(u.n, time.Unix(u.now, 0)); fresh != u.fresh || full != u.full {
			t.Errorf("%v at %d: fresh %v, full %v", u.n.ID[0], u.now, fresh, full)
		}
	}
}

// TestReplayRestoreOverLimit: a nonce that does not fit must not be good again.
func TestReplayRestoreOverLimit(t *testing.T) {
	r := NewReplay(1)
	r.Restore(nonce(1, 90))
	r.Restore(nonce(2, 90))
	for _, u := range []use{{nonce(1, 90), 50, false, false}, {nonce(2, 90), 50, false, false}, {nonce(3, 120), 61, false, true},
		{nonce(3, 120), 90, true, false}} {
		if fresh, full := r.Use(u.n, time.Unix(u.now, 0)); fresh != u.fresh || full != u.full {
			t.Errorf("%v at %d: fresh %v, full %v", u.n.ID[0], u.now, fresh, full)
		}
	}
}

// FuzzReplay compares with a memory that forgets nothing, under a clock that jumps: no
// token is fresh twice while it could be verified.
func FuzzReplay(f *testing.F) {
	f.Add([]byte{1, 10, 0, 1, 20, 0, 1, 200, 1, 2, 5, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		r, used := NewReplay(5), map[Nonce]bool{}
		now := int64(1000)
		for ; len(ops) >= 3; ops = ops[3:] {
			now = max(now+int64(int8(ops[1])), 0)
			n := nonce(ops[0]&7, (now/30+1+int64(ops[2]%3))*30)
			n.ID[1] = byte(n.Expires / 30) // one nonce has one step
			fresh, full := r.Use(n, time.Unix(now, 0))
			if fresh && (full || used[n]) {
				t.Fatalf("%v at %d is fresh again, full %v", n, now, full)
			}
			used[n] = used[n] || fresh
			if r.count > 5 {
				t.Fatalf("%d nonces held", r.count)
			}
		}
	})
}
