// Package metrics holds what the actors count for Prometheus on the way of a request: the children
// of each vector are looked up once, since a lookup by labels would cost more than the count.
package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/internal/auth"
)

// Buckets are the upper bounds, in seconds, of every histogram: from an answer out of memory to the
// longest deadline.
var Buckets = []float64{.0001, .001, .005, .025, .1, .25, 1, 2.5, 5, 10, 30}

// Decisions counts the answers of all listeners. It implements prometheus.Collector.
type Decisions struct {
	count *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

// NewDecisions returns counters at zero.
func NewDecisions() *Decisions {
	return &Decisions{
		count: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_decisions_total", Help: "Answers by listener, operation, verdict and who decided",
		}, []string{"front", "op", "verdict", "source"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postern_decision_seconds", Help: "Time from a request to its answer", Buckets: Buckets,
		}, []string{"front"}),
	}
}

// Describe implements prometheus.Collector.
func (d *Decisions) Describe(out chan<- *prometheus.Desc) {
	d.count.Describe(out)
	d.took.Describe(out)
}

// Collect implements prometheus.Collector.
func (d *Decisions) Collect(out chan<- prometheus.Metric) {
	d.count.Collect(out)
	d.took.Collect(out)
}

// Front counts the answers of one listener. Those of a listener that a reload takes away and
// another brings back are counted on.
type Front struct {
	all   *Decisions
	name  string
	took  prometheus.Observer
	count [auth.Operations][auth.Verdicts][auth.Sources]atomic.Pointer[prometheus.Counter]
}

// Front returns the counters of a listener by its name.
func (d *Decisions) Front(name string) *Front {
	return &Front{all: d, name: name, took: d.took.WithLabelValues(name)}
}

// Note counts an answer.
func (f *Front) Note(op auth.Operation, v auth.Verdict, s auth.Source, took time.Duration) {
	f.took.Observe(took.Seconds())
	at := &f.count[op][v][s]
	counter := at.Load()
	if counter == nil {
		c := f.all.count.WithLabelValues(f.name, op.String(), v.String(), s.String())
		counter = &c
		at.Store(counter)
	}
	(*counter).Inc()
}
