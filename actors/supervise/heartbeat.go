package supervise

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// heartbeat is passed through the queue of an actor to see that it still works its queue off. It
// is a continuation, so that a long queue, or a restart under way, delays it only.
type heartbeat struct {
	name  string
	beats atomic.Bool
	ready chan<- string // has room for all
}

var _ Continuation = (*heartbeat)(nil)

// Continues implements Continuation.
func (*heartbeat) Continues() {}

// Fail implements Request: an actor that has ended owes no heartbeat.
func (h *heartbeat) Fail(Reason) { h.beat() }

func (h *heartbeat) beat() {
	if h.beats.CompareAndSwap(false, true) {
		h.ready <- h.name
	}
}

// Alive waits until every listed actor has handled all that was in its queue. The error names
// those that had not when ctx ended.
func (s *System) Alive(ctx context.Context) error {
	refs := s.Refs()
	ready := make(chan string, len(refs))
	missing := make(map[string]struct{}, len(refs))
	for _, r := range refs {
		missing[r.name] = struct{}{}
		r.Send(&heartbeat{name: r.name, ready: ready})
	}
	for len(missing) > 0 {
		select {
		case name := <-ready:
			delete(missing, name)
		case <-ctx.Done():
			names := slices.Sorted(maps.Keys(missing))
			return fmt.Errorf("no sign of life from %s: %w", strings.Join(names, ", "), ctx.Err())
		}
	}
	return nil
}
