package actors

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"postern/internal/auth"
)

// pulse is passed through the queue of an actor to see that it still works its queue off. It
// is a continuation, so that a long queue, or a restart under way, delays it only.
type pulse struct {
	name  string
	felt  atomic.Bool
	ready chan<- *pulse // has room for all
}

var _ continuation = (*pulse)(nil)

func (*pulse) continues() {}

// Fail implements request: an actor that has ended owes no pulse.
func (p *pulse) Fail(auth.Source) { p.beat() }

func (p *pulse) beat() {
	if p.felt.CompareAndSwap(false, true) {
		p.ready <- p
	}
}

// Alive waits until every listed actor has handled all that was in its queue, and the sweeper
// has kept its time. Who did not before ctx ended is named by the error. It asks nobody outside
// of the process: a backend's outage is no fault of ours.
func (b *Broker) Alive(ctx context.Context) error {
	boxes := b.sys.boxes()
	ready := make(chan *pulse, len(boxes))
	missing := make(map[string]bool, len(boxes))
	for name, box := range boxes {
		missing[name] = true
		box.PostUserMessage(&pulse{name: name, ready: ready})
	}
	swept := b.sweeps.Load()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for len(missing) > 0 || b.sweeps.Load() == swept {
		select {
		case p := <-ready:
			delete(missing, p.name)
		case <-tick.C:
		case <-ctx.Done():
			if b.sweeps.Load() == swept {
				missing["sweeper"] = true
			}
			return fmt.Errorf("no sign of life from %s: %w", listed(missing), ctx.Err())
		}
	}
	return nil
}

func listed(names map[string]bool) string {
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	sort.Strings(list)
	return strings.Join(list, ", ")
}
