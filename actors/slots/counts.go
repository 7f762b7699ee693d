package slots

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/actors/metrics"
	"postern/internal/backend"
)

// counts counts what came of a backend's questions.
type counts struct {
	answers [backend.Classes]prometheus.Counter
	took    prometheus.Histogram
	waiting atomic.Int32
	open    atomic.Bool // the breaker
	health  atomic.Pointer[Health]
}

func (c *counts) init(name string) {
	labels := prometheus.Labels{"backend": name}
	for class := range c.answers {
		c.answers[class] = prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_backend_answers_total", Help: "Answers of backends by what they mean; outage: there was none",
			ConstLabels: prometheus.Labels{"backend": name, "class": backend.Class(class).String()},
		})
	}
	c.took = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "postern_backend_seconds", Help: "Time that backends took", ConstLabels: labels, Buckets: metrics.Buckets,
	})
}

func (c *counts) note(class backend.Class, took time.Duration) {
	c.answers[class].Inc()
	c.took.Observe(took.Seconds())
}

// Counts is how a backend stands at the moment.
type Counts struct {
	Slots    int  // that it has at most
	Limit    int  // that may be in use now, from the block's min_slots to Slots; fewer just after an outage
	Busy     int  // of its slots
	Waiting  int  // questions that wait for a slot
	Open     bool // its breaker: it is not asked
	Health   Health
	Withheld int64
	Slowed   time.Duration // by which it delays our logins, as far as it says
}

// Counts returns how the backend stands.
func (b *Backend) Counts() Counts {
	return Counts{
		Slots: int(b.slots), Limit: int(b.most.Load()), Busy: int(b.running.Load()), Waiting: int(b.counts.waiting.Load()), Open: b.counts.open.Load(), Health: b.Health(),
		Withheld: b.withheld.Load(), Slowed: time.Duration(b.delay.Load()),
	}
}

// Health is whether a backend is asked, and why not.
type Health struct {
	Open   bool      // its breaker: it is not asked
	Since  time.Time // that the breaker is as it is
	Cause  error     // of the last failure; nil: there was none, or the breaker has closed since
	Failed time.Time // when that was
}

func (c *counts) show(h Health) { c.health.Store(&h) }

// Health returns how the backend's last answers were.
func (b *Backend) Health() Health {
	if h := b.counts.health.Load(); h != nil {
		return *h
	}
	return Health{}
}

// Collect sends what the backend has answered since it is in use, as prometheus.Collector does.
func (b *Backend) Collect(out chan<- prometheus.Metric) {
	for _, answers := range b.counts.answers {
		out <- answers
	}
	out <- b.counts.took
}
