package front

import (
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/call"
	"postern/internal/auth"
	"postern/wire"
)

// overtaking is a codec with answers that may overtake each other.
type overtaking struct{ wire.Unordered }

// TestSweep: calls past their deadline are answered by the sweep and the others at the end, whatever
// became of them, on every connection.
func TestSweep(t *testing.T) {
	now := time.Now()
	withLeft := func(left time.Duration) *call.Call { return &call.Call{Deadline: now.Add(left)} }
	over, open, other, apart := withLeft(-time.Millisecond), withLeft(time.Hour), withLeft(-time.Hour), withLeft(-time.Minute)
	s := &Server{conns: make(map[*conn]struct{})}
	add := func(c *conn, at int, calls ...*call.Call) {
		c.ring = make([]atomic.Pointer[call.Call], 4)
		for i, call := range calls {
			c.ring[(at+i)%len(c.ring)].Store(call)
		}
		c.admitted.Add(uint64(len(calls)))
		s.conns[c] = struct{}{}
	}
	add(&conn{}, 0, over, open)
	add(&conn{}, 0, other)
	add(&conn{}, 0)
	add(&conn{unordered: overtaking{}, anySlot: true}, 3, apart) // in any slot
	s.Sweep(now)
	for name, c := range map[string]*call.Call{"a moment over": over, "an hour over": other, "over, in another slot": apart} {
		if answer, _ := c.Result(); !c.Done() || answer.Source != auth.SourceDeadline || answer.Verdict != auth.Unavailable {
			t.Errorf("%s: done %t, %+v", name, c.Done(), answer)
		}
	}
	if open.Done() {
		t.Error("one with time left was ended")
	}
	s.FailInFlight()
	if answer, _ := open.Result(); !open.Done() || answer.Source != auth.SourceStopping {
		t.Errorf("at the end: done %t, %+v", open.Done(), answer)
	}
}
