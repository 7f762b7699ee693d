package call

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/domain"
	"postern/actors/supervise"
	"postern/internal/auth"
)

// TestAdmissionIsReleasedOnce: however its answer and its admission race, a call releases what it was
// given exactly once, and holds nothing after its answer.
func TestAdmissionIsReleasedOnce(t *testing.T) {
	for range 2000 {
		var ended atomic.Int64
		router := supervise.NewRefCount(func() { ended.Add(1) })
		router.Acquire() // the test's own
		c := new(Call)
		var wg sync.WaitGroup
		wg.Go(func() { router.Acquire(); c.Admit(router) })
		wg.Go(func() { c.Unavailable(auth.SourceDeadline) })
		wg.Go(func() { c.Unavailable(auth.SourceStopping) })
		wg.Wait()
		if n := router.Holders(); n != 1 || c.Admission() != nil {
			t.Fatalf("%d hold the router after the answer, want the test alone", n)
		}
		router.Retire()
		if router.Release(); ended.Load() != 1 {
			t.Fatalf("the router ended %d times", ended.Load())
		}
	}
}

// TestAdmission: a call is sent on to another router without holding both.
func TestAdmission(t *testing.T) {
	first, second := supervise.NewRefCount(func() {}), supervise.NewRefCount(func() {})
	c := new(Call)
	first.Acquire()
	c.Admit(first)
	if c.Admission() != first || first.Holders() != 1 {
		t.Error("a call without an answer was not admitted")
	}
	c.Leave()
	c.Leave()
	second.Acquire()
	c.Admit(second)
	if first.Holders() != 0 || second.Holders() != 1 {
		t.Errorf("%d hold the first router, %d the second", first.Holders(), second.Holders())
	}
	c.Unavailable(auth.SourceDeadline)
	c.Unavailable(auth.SourceDeadline)
	if c.Leave(); second.Holders() != 0 {
		t.Errorf("%d hold a router after the answer", second.Holders())
	}
	second.Acquire()
	if c.Admit(second); second.Holders() != 0 {
		t.Error("an answered call was admitted")
	}
}

// TestJoinAfterTheAnswer: a call takes none in once it has its answer.
func TestJoinAfterTheAnswer(t *testing.T) {
	c := new(Call)
	c.Unavailable(auth.SourceDeadline)
	if w := new(Call); c.Join(w) || w.Done() {
		t.Error("a call waits for an answer that was given before")
	}
}

// TestGraceTime: a quarter of a call's time, at most a second.
func TestGraceTime(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		0: 0, time.Second: 250 * time.Millisecond, 4 * time.Second: time.Second, time.Minute: time.Second,
	} {
		if got := GraceTime(timeout); got != want {
			t.Errorf("of %v: %v, want %v", timeout, got, want)
		}
	}
}

// TestGate counts what enters until it is closed.
func TestGate(t *testing.T) {
	var g Gate
	for range 2 {
		if !g.Enter() {
			t.Error("an open gate does not let in")
		}
	}
	if g.InFlight() != 2 || g.Draining() {
		t.Errorf("%d are in flight; draining: %t", g.InFlight(), g.Draining())
	}
	g.Drain()
	if g.Enter() || g.InFlight() != 2 || !g.Draining() {
		t.Error("a closed gate lets in")
	}
	if g.Leave(2); g.InFlight() != 0 {
		t.Errorf("%d are in flight", g.InFlight())
	}
}

// TestAnswerWithoutRosters: a login at a domain without shared rosters is answered like any other.
func TestAnswerWithoutRosters(t *testing.T) {
	c := &Call{Req: auth.Request{Op: auth.OpAuth}, Domain: &domain.Domain{Shared: &domain.Shared{}}}
	if !c.Answer(auth.Answer{Verdict: auth.Allow}) || !c.Done() {
		t.Error("it was not answered")
	}
}
