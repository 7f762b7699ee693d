package slots

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// TestCauses: a new cause is logged at once, a known one after a while, and a flood of causes is bounded.
func TestCauses(t *testing.T) {
	var c causes
	now := time.Now()
	for i, step := range []struct {
		after time.Duration
		cause string
		held  int64
		due   bool
	}{
		{0, "dial 127.0.0.1:4711: refused", 0, true}, {0, "dial 127.0.0.1:4712: refused", 0, false}, {0, "timeout", 0, true},
		{time.Second, "dial 127.0.0.1:9: refused", 0, false}, {time.Second, "timeout", 0, false}, {time.Second, "", 0, true},
		{10 * time.Second, "dial 127.0.0.1:1: refused", 2, true}, {0, "timeout", 1, true},
	} {
		now = now.Add(step.after)
		var cause error
		if step.cause != "" {
			cause = errors.New(step.cause)
		}
		if held, due := c.due(cause, now); held != step.held || due != step.due {
			t.Errorf("step %d, %s: %d, %t", i, step.cause, held, due)
		}
	}
	logged := 0
	for i := range 1000 {
		if _, due := c.due(fmt.Errorf("cause %c", rune(0x4e00+i)), now); due {
			logged++
		}
	}
	if logged > maxCauses {
		t.Errorf("%d lines", logged)
	}
	c.clear()
	if _, due := c.due(errors.New("timeout"), now); !due {
		t.Error("a cause is known after the end of the outage")
	}
}

// TestOpenBreakerSaysWhy: a question that is not put says since when, for how long and why, with the cause of
// the latest probe.
func TestOpenBreakerSaysWhy(t *testing.T) {
	r := newRig(t, false, config.Backend{Slots: 1, BreakerFailures: 1, BreakerCooldown: 20 * time.Millisecond})
	var fault atomic.Pointer[error]
	fail := func(text string) {
		err := errors.New(text)
		fault.Store(&err)
	}
	r.fake.ask = func(context.Context, backend.Query) backend.Result {
		return backend.Result{Class: backend.Outage, Err: *fault.Load()}
	}
	fail("connection refused")
	before := time.Now()
	r.want(r.put(nil), backend.Outage, auth.SourceBackend, false)
	for _, cause := range []string{"connection refused", "certificate expired"} {
		fail(cause)
		var traced atomic.Pointer[string]
		says := func() bool {
			a := <-r.put(func(q *Question) { q.Trace = func(_, note string) { traced.Store(&note) } })
			var open *openBreaker
			if !errors.As(a.Result.Err, &open) || !errors.Is(a.Result.Err, errBreaker) {
				return false // a probe
			}
			text := a.Result.Err.Error()
			if !strings.Contains(text, " since "+open.since.Format(time.DateTime)+" (") || open.since.Before(before.Add(-time.Second)) || *traced.Load() != text {
				t.Errorf("%q, traced %q", text, *traced.Load())
			}
			return strings.HasSuffix(text, ": "+cause)
		}
		for end := time.Now().Add(time.Minute); !says(); {
			if time.Now().After(end) {
				t.Fatalf("it never says %q", cause)
			}
		}
		if h := r.Health(); !h.Open || h.Cause == nil || h.Cause.Error() != cause || h.Since.Before(before) || h.Failed.Before(h.Since) {
			t.Errorf("health: %+v; want the cause %q", h, cause)
		}
	}
	if text := (&openBreaker{since: before, now: before.Add(90 * time.Second)}).Error(); !strings.HasSuffix(text, "(1m30s)") {
		t.Error(text)
	}
}
