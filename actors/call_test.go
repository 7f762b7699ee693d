package actors

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
)

// counter is an asker that counts.
type counter struct{ n atomic.Int64 }

func (c *counter) answered(*Call) { c.n.Add(1) }

// TestCallIsAnsweredOnce: many answer, one decides, and the asker is told once.
func TestCallIsAnsweredOnce(t *testing.T) {
	for range 200 {
		told := new(counter)
		c := &Call{asker: told}
		var first atomic.Int64
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				a := auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend}
				if i%2 == 0 {
					a = auth.Answer{Verdict: auth.Deny, Source: auth.SourceToken}
				}
				if c.Answer(a) {
					first.Add(1)
				}
				c.Fail(auth.SourcePanic)
			}()
		}
		wg.Wait()
		if told.n.Load() != 1 || first.Load() != 1 || !c.Done() || c.answer.Verdict == auth.Unavailable {
			t.Fatalf("told %d times, %d were first, the answer is %+v", told.n.Load(), first.Load(), c.answer)
		}
	}
}

// TestWaitersAreAnsweredOnce: whoever joins a call while it is being answered either has its
// answer or is told that it came too late.
func TestWaitersAreAnsweredOnce(t *testing.T) {
	for range 200 {
		leader := &Call{asker: new(counter)}
		told := new(counter)
		var late atomic.Int64
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if i == 8 {
					leader.Answer(auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend})
				}
				if w := (&Call{asker: told}); !leader.join(w) {
					late.Add(1)
				}
			}()
		}
		wg.Wait()
		if told.n.Load()+late.Load() != 16 {
			t.Fatalf("%d were told, %d came too late, of 16", told.n.Load(), late.Load())
		}
	}
}

// TestWaiterSources: those who waited say so, but a failure keeps its reason.
func TestWaiterSources(t *testing.T) {
	for source, want := range map[auth.Source]auth.Source{
		auth.SourceBackend: auth.SourceCoalesced, auth.SourceGrace: auth.SourceCoalesced, auth.SourceToken: auth.SourceCoalesced,
		auth.SourcePanic: auth.SourcePanic, auth.SourceOverload: auth.SourceOverload,
		auth.SourceStopping: auth.SourceStopping, auth.SourceDeadline: auth.SourceDeadline,
	} {
		leader, w := new(Call), new(Call)
		leader.join(w)
		leader.Answer(auth.Answer{Source: source})
		if !w.Done() || w.answer.Source != want {
			t.Errorf("after %v a waiter is answered by %v, want %v", source, w.answer.Source, want)
		}
	}
}

// TestSweep ends what is past its deadline, and nothing else.
func TestSweep(t *testing.T) {
	now := time.Now()
	call := func(left time.Duration) *Call { return &Call{Deadline: now.Add(left)} }
	over, open, other := call(-time.Millisecond), call(time.Hour), call(-time.Hour)
	b := &Broker{conns: make(map[*conn]struct{})}
	for _, calls := range [][]*Call{{over, open}, {other}, nil} {
		c := &conn{ring: make([]atomic.Pointer[Call], 4)}
		for i, call := range calls {
			c.ring[i].Store(call)
		}
		c.last.Store(uint64(len(calls)))
		b.conns[c] = struct{}{}
	}
	b.sweepOnce(now)
	for name, c := range map[string]*Call{"a moment over": over, "an hour over": other} {
		if !c.Done() || c.answer.Source != auth.SourceDeadline || c.answer.Verdict != auth.Unavailable {
			t.Errorf("%s: done %t, %+v", name, c.Done(), c.answer)
		}
	}
	if open.Done() {
		t.Error("one with time left was ended")
	}
	b.failInFlight()
	if !open.Done() || open.answer.Source != auth.SourceStopping {
		t.Errorf("at the end: done %t, %+v", open.Done(), open.answer)
	}
}

// TestDecisionLine is what an administrator reads of each request.
func TestDecisionLine(t *testing.T) {
	cases := []struct {
		answer auth.Answer
		level  string
	}{
		{auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot}, "INFO"},
		{auth.Answer{Verdict: auth.Deny, Source: auth.SourceBackend}, "INFO"},
		{auth.Answer{Source: auth.SourceOverload}, "WARN"}, {auth.Answer{Source: auth.SourceDeadline}, "WARN"},
		{auth.Answer{Source: auth.SourcePanic}, "WARN"},
	}
	for _, c := range cases {
		log := new(syncBuffer)
		call := &Call{Req: login("joe", "hunter2"), ID: auth.Identity{User: "joe", Domain: "dom.example"}, front: "mux", Received: time.Now()}
		call.Req.Client = "192.0.2.1"
		call.Answer(c.answer)
		front := &counters{front: "mux", log: slog.New(slog.NewTextHandler(log, nil))}
		call.log(front.note(call))
		for _, want := range []string{"level=" + c.level, "front=mux", "op=auth", "domain=dom.example", "user=joe", "took=", "client=192.0.2.1",
			"verdict=" + c.answer.Verdict.String(), "source=" + c.answer.Source.String()} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%q lacks %s", log.String(), want)
			}
		}
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("%q holds the password", log.String())
		}
	}
}
