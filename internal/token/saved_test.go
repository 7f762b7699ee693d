package token

import (
	"testing"
	"time"
)

// TestReplaySaved: used tokens stay used in a successor, and forgotten steps stay closed.
func TestReplaySaved(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := NewReplay(10)
	old, used := Nonce{ID: [32]byte{1}, Expires: now.Unix() + 10}, Nonce{ID: [32]byte{2}, Expires: now.Unix() + 60}
	r.Use(old, now)
	r.Use(used, now.Add(20*time.Second)) // which forgets the other
	next := NewReplay(10)
	next.RestoreAll(r.Save())
	for _, n := range []Nonce{old, used} {
		if fresh, _ := next.Use(n, now); fresh {
			t.Errorf("%v can be used again", n.ID[0])
		}
	}
	if fresh, _ := next.Use(Nonce{ID: [32]byte{3}, Expires: used.Expires}, now); !fresh {
		t.Error("a new one cannot be used")
	}
}
