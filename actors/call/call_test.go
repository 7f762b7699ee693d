package call

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/metrics"
	"postern/internal/auth"
)

// counter is an asker that counts.
type counter struct{ n atomic.Int64 }

func (c *counter) Answered(*Call) { c.n.Add(1) }

// TestCallIsAnsweredOnce: many answer, one decides, and the asker is notified once.
func TestCallIsAnsweredOnce(t *testing.T) {
	for range 200 {
		notified := new(counter)
		c := &Call{Asker: notified}
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
				c.Unavailable(auth.SourcePanic)
			}()
		}
		wg.Wait()
		if notified.n.Load() != 1 || first.Load() != 1 || !c.Done() || c.answer.Verdict == auth.Unavailable {
			t.Fatalf("notified %d times, %d were first, the answer is %+v", notified.n.Load(), first.Load(), c.answer)
		}
	}
}

// TestWaitersAreAnsweredOnce: a call that joins another while that is being answered either
// gets its answer, or Join is false.
func TestWaitersAreAnsweredOnce(t *testing.T) {
	for range 200 {
		leader := &Call{Asker: new(counter)}
		notified := new(counter)
		var late atomic.Int64
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if i == 8 {
					leader.Answer(auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend})
				}
				if w := (&Call{Asker: notified}); !leader.Join(w) {
					late.Add(1)
				}
			}()
		}
		wg.Wait()
		if notified.n.Load()+late.Load() != 16 {
			t.Fatalf("%d were notified, %d came too late, of 16", notified.n.Load(), late.Load())
		}
	}
}

// TestWaiterSources: calls that waited have the source coalesced, but a failure keeps its reason.
func TestWaiterSources(t *testing.T) {
	for source, want := range map[auth.Source]auth.Source{
		auth.SourceBackend: auth.SourceCoalesced, auth.SourceGrace: auth.SourceCoalesced, auth.SourceToken: auth.SourceCoalesced,
		auth.SourcePanic: auth.SourcePanic, auth.SourceOverload: auth.SourceOverload,
		auth.SourceStopping: auth.SourceStopping, auth.SourceDeadline: auth.SourceDeadline,
	} {
		leader, w := new(Call), new(Call)
		leader.Join(w)
		leader.Answer(auth.Answer{Source: source})
		if !w.Done() || w.answer.Source != want {
			t.Errorf("after %v a waiter is answered by %v, want %v", source, w.answer.Source, want)
		}
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
		log := new(bytes.Buffer)
		call := &Call{
			Req: auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom.example", Secret: auth.NewSecret("hunter2"), Client: "192.0.2.1"},
			ID:  auth.Identity{User: "joe", Domain: "dom.example"}, Name: "joe", Received: time.Now(),
		}
		call.Answer(c.answer)
		NewLedger("mux", metrics.NewDecisions().Front("mux"), slog.New(slog.NewTextHandler(log, nil)), nil, nil).Note(call, nil)
		for _, want := range []string{"level=" + c.level, "front=mux", "op=auth", "domain=dom.example", "user=joe", "took=", "client=192.0.2.1",
			"verdict=" + c.answer.Verdict.String(), "source=" + c.answer.Source.String()} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%q lacks %s", log.String(), want)
			}
		}
		if refused := c.answer.Verdict != auth.Allow; refused != strings.Contains(log.String(), "given=joe@dom.example reason=") ||
			strings.Contains(log.String(), `reason=""`) {
			t.Errorf("%q: a refusal has a name and a reason, an acceptance has not", log.String())
		}
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("%q holds the password", log.String())
		}
	}
}
