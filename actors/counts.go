package actors

import (
	"context"
	"maps"
	"sync/atomic"
	"time"

	"postern/internal/backend"
	"postern/internal/config"
)

// Counts is what the broker has counted since its start, and how it stands at the moment. Of
// backends and domains it has those of the configuration: registered ones may be many.
type Counts struct {
	Connections     int    // open
	ConnectionsEver uint64 // since the start
	InFlight        int64  // requests admitted whose answer has not left
	Restarts        int64  // of actors that panicked
	Registered      int    // domains that are registered
	Live            int    // of these, that have actors
	Fronts          map[string]FrontCounts
	Backends        map[config.BackendRef]BackendCounts
	Domains         map[string]ShardStats
}

// FrontCounts are the decisions of a listener, or of all pipes.
type FrontCounts struct {
	Decisions []Decisions
	Took      Histogram // from the request's last byte to its answer
}

// BackendCounts tell of a backend.
type BackendCounts struct {
	Slots    int
	Busy     int  // of its slots
	Waiting  int  // questions that wait for a slot
	Open     bool // its breaker: nobody is asked
	Withheld int64
	Slowed   time.Duration // by which it delays our logins, as far as it tells
	Answers  [backend.Classes]uint64
	Took     Histogram
}

// asked counts what came of a backend's questions.
type asked struct {
	answers [backend.Classes]atomic.Uint64
	took    histogram
	waiting atomic.Int32
	open    atomic.Bool // the breaker
}

func (a *asked) note(class backend.Class, took time.Duration) {
	a.answers[class].Add(1)
	a.took.observe(took)
}

func (r *backendRef) counts() BackendCounts {
	out := BackendCounts{
		Slots: int(r.slots), Busy: int(r.running.Load()), Waiting: int(r.asked.waiting.Load()), Open: r.asked.open.Load(),
		Withheld: r.withheld.Load(), Slowed: time.Duration(r.delay.Load()), Took: r.asked.took.read(),
	}
	for class := range out.Answers {
		out.Answers[class] = r.asked.answers[class].Load()
	}
	return out
}

// Counts returns the counts. The error says that a part of the cache did not tell its own before
// ctx ended; the others are there all the same.
func (b *Broker) Counts(ctx context.Context) (c Counts, err error) {
	c.Connections, c.ConnectionsEver = b.Connections()
	c.InFlight, c.Restarts = b.inFlight.Load(), b.sys.restarts.Load()
	b.mu.Lock()
	counters := maps.Clone(b.counters)
	b.mu.Unlock()
	c.Fronts = make(map[string]FrontCounts, len(counters))
	for name, t := range counters {
		c.Fronts[name] = FrontCounts{t.read(), t.took.read()}
	}
	c.Registered, c.Live = len(*b.tenants.names.Load()), len(b.awake())
	t := b.table.Load()
	c.Backends = make(map[config.BackendRef]BackendCounts, len(t.backends))
	for name, ref := range t.backends {
		c.Backends[name] = ref.counts()
	}
	// Without b.shape: a shard that hangs must not keep a reload waiting. One that a reload takes
	// away says so.
	c.Domains, err = shardStats(ctx, t.domains)
	return c, err
}
