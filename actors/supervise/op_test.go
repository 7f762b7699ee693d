package supervise

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// finished waits for the end of an Op, and reports whether it ran.
func finished[A any](t *testing.T, o *Op[A]) bool {
	t.Helper()
	select {
	case <-o.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("it did not end")
	}
	return o.Ran()
}

func TestOp(t *testing.T) {
	r := newRig(t, 1, &carrier{})
	h := send(r, newHold())
	<-h.reached
	send(r, new(parcel)) // fills the queue
	ran := 0
	o := Do(r.ref, func(c *carrier) {
		if c.self != r.ref {
			t.Error("another actor runs it")
		}
		ran++
	})
	close(h.release)
	if !finished(t, o) || ran != 1 {
		t.Errorf("it ran %d times", ran)
	}
	if err := Ask(context.Background(), r.ref, func(*carrier) { ran++ }); err != nil || ran != 2 {
		t.Errorf("it ran %d times: %v", ran, err)
	}
}

// TestOpThroughPanics: a function that panics is run again, three times.
func TestOpThroughPanics(t *testing.T) {
	for panics, want := range map[int]bool{1: true, opRetries: true, opRetries + 1: false} {
		r := newRig(t, 10, &carrier{})
		ran := 0
		o := Do(r.ref, func(*carrier) {
			if ran++; ran <= panics {
				panic(injected("op"))
			}
		})
		for range panics - 1 {
			r.restart()
		}
		if got := finished(t, o); got != want || ran != min(panics, opRetries)+1 {
			t.Errorf("with %d panics it ran %d times, in the end %t", panics, ran, got)
		}
		if want {
			continue
		}
		if !errors.Is(o.err, ErrPanicked) {
			t.Errorf("the error is %v", o.err)
		}
		r.ref.Stop() // before the restart
	}
}

// TestOpPanicsAfterwards: a panic of the actor after the function's end does not repeat it.
func TestOpPanicsAfterwards(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	ran := 0
	o := &Op[*carrier]{to: r.ref, done: make(chan struct{}), fn: func(*carrier) { ran++ }}
	send(r, func(c *carrier) {
		o.Run(c)
		o.Fail(Panicked)
	})
	if !finished(t, o) {
		t.Error("it did not run")
	}
	r.idle(r.ref)
	if ran != 1 {
		t.Errorf("it ran %d times", ran)
	}
}

func TestAskGivesUp(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	h := send(r, newHold())
	<-h.reached
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	err := Ask(ctx, r.ref, func(*carrier) { t.Error("it runs after all") })
	if !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	close(h.release)

	begun, release := make(chan struct{}), make(chan struct{})
	ctx, cancel = context.WithCancel(context.Background())
	go func() { <-begun; cancel() }()
	err = Ask(ctx, r.ref, func(*carrier) { close(begun); <-release })
	if !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	close(release)
}

func TestAskStopped(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	h := send(r, newHold())
	<-h.reached
	queued := Do(r.ref, func(*carrier) { t.Error("it runs") })
	r.ref.Stop()
	if err := Ask(context.Background(), r.ref, func(*carrier) { t.Error("it runs") }); !errors.Is(err, ErrStopped) {
		t.Errorf("the error is %v", err)
	}
	close(h.release)
	if finished(t, queued) {
		t.Error("it ran")
	}
}

// TestAskBesideStop: it always ends, and says truly whether the function was run.
func TestAskBesideStop(t *testing.T) {
	for range 50 {
		r := newRig(t, 10, &carrier{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for {
					ran := false
					err := Ask(context.Background(), r.ref, func(*carrier) { ran = true })
					if ran != (err == nil) {
						t.Errorf("ran %t: %v", ran, err)
					}
					if err != nil {
						return
					}
				}
			}()
		}
		r.ref.Stop()
		wg.Wait()
	}
}
