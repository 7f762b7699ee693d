package call

import (
	"sync"
	"time"
)

// TraceStep is one thing that happened to a request.
type TraceStep struct {
	At    time.Duration // since the request was received
	Stage string        // token, cache, backend.KIND.NAME, ...
	Note  string
}

// Trace records the way of a request for `postern test`. A nil *Trace records nothing.
type Trace struct {
	mu    sync.Mutex
	start time.Time
	steps []TraceStep
}

// NewTrace returns an empty trace that starts now.
func NewTrace() *Trace { return &Trace{start: time.Now()} }

// Add records a step. The note must hold no secret.
func (t *Trace) Add(stage, note string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps = append(t.steps, TraceStep{time.Since(t.start), stage, note})
}

// Steps returns what was recorded so far, in order.
func (t *Trace) Steps() []TraceStep {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]TraceStep(nil), t.steps...)
}
