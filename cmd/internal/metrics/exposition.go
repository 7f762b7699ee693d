package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/actors"
	"postern/actors/memory"
	"postern/actors/slots"
	"postern/internal/version"
)

// Snapshot is the state of a daemon at the time of a scrape.
type Snapshot struct {
	Counts       actors.Counts
	Counters     func(chan<- prometheus.Metric) // what the broker has counted since its start
	Stalled      bool                           // a part of the cache did not report its counts in time
	Store        Store                          // on disk
	Loaded       time.Time                      // when the configuration in force was read
	ReloadFailed bool                           // the last reload was refused
}

// Store is the state of the store on disk.
type Store struct {
	Wanted bool   // a domain needs one: without it the store has no series
	Up     bool   // it works
	Open   bool   // it could be opened, so that it has a size
	Bytes  uint64 // on disk
	Shared *SharedStore
}

// SharedStore is the state of a store that other machines use as well.
type SharedStore struct {
	RoundTrips, Invalidations, Losses, Restores, Epochs uint64
	Lag                                                 time.Duration
	Up                                                  bool
}

// collector implements prometheus.Collector.
type collector struct{ take func() Snapshot }

// Describe implements prometheus.Collector. It describes nothing: which series there are depends on
// the configuration.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.take()
	e := exposition(out)
	e.process(s)
	e.broker(s.Counts)
	e.gauge("cache_stalled", "1 if a part of the cache did not report its counts in time", one(s.Stalled))
	s.Counters(out)
	for ref, backend := range s.Counts.Backends {
		e.backend(ref.String(), backend)
	}
	for name, stats := range s.Counts.Domains {
		e.domain(name, stats)
	}
}

// exposition gives counts the names under which Prometheus knows them.
type exposition chan<- prometheus.Metric

// metric adds a value; labels are names and values in turn.
func (e exposition) metric(kind prometheus.ValueType, name, help string, value float64, labels ...string) {
	desc, values := describe(name, help, labels)
	e <- prometheus.MustNewConstMetric(desc, kind, value, values...)
}

func describe(name, help string, labels []string) (desc *prometheus.Desc, values []string) {
	var names []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	return prometheus.NewDesc("postern_"+name, help, names, nil), values
}

func (e exposition) gauge(name, help string, value float64, labels ...string) {
	e.metric(prometheus.GaugeValue, name, help, value, labels...)
}

func (e exposition) counter(name, help string, value float64, labels ...string) {
	e.metric(prometheus.CounterValue, name, help, value, labels...)
}

// process adds the series of the program, its configuration and its store.
func (e exposition) process(s Snapshot) {
	e.gauge("build_info", "Always 1; the labels name the build", 1, "version", version.Version, "goversion", runtime.Version())
	if s.Store.Wanted {
		e.gauge("store_up", "1 if the store works, 0 if the cache lives in memory only: until a restart, or until a shared store is back; see the log", one(s.Store.Up))
		if shared := s.Store.Shared; shared != nil {
			e.gauge("store_connected", "1 while the shared store tells of every change by others, 0 while every password is asked about", one(shared.Up))
			e.gauge("store_lag_seconds", "Time since the shared store has shown that it does", shared.Lag.Seconds())
			e.counter("store_round_trips_total", "Requests to the shared store", float64(shared.RoundTrips))
			e.counter("store_invalidations_total", "Changed records of which the shared store has told", float64(shared.Invalidations))
			e.counter("store_losses_total", "Times that the shared store was lost, or emptied", float64(shared.Losses))
			e.counter("store_restores_total", "Times that the shared store was back after a loss", float64(shared.Restores))
			e.counter("store_epochs_total", "Times that the shared store was seen emptied, restarted or replaced", float64(shared.Epochs))
		} else if s.Store.Open {
			e.gauge("store_bytes", "Size of the store on disk", float64(s.Store.Bytes))
		}
	}
	e.gauge("config_loaded_timestamp_seconds", "When the configuration in force was read", float64(s.Loaded.UnixMilli())/1000)
	e.gauge("config_reload_failed", "1 if the last reload was refused, so that an older configuration is in force", one(s.ReloadFailed))
}

func (e exposition) broker(c actors.Counts) {
	e.gauge("connections", "Connections that are open", float64(c.Connections))
	e.counter("connections_total", "Connections since the start", float64(c.ConnectionsEver))
	e.gauge("requests_in_flight", "Requests that have not been answered", float64(c.InFlight))
	e.counter("actor_restarts_total", "Restarts of actors after a panic: each is a fault of postern", float64(c.Restarts))
	e.gauge("domains_registered", "Domains that are registered and not in the configuration", float64(c.Registered))
	e.gauge("domains_live", "Registered domains with a recent request", float64(c.Live))
}

func (e exposition) backend(name string, b slots.Counts) {
	label := []string{"backend", name}
	e.gauge("backend_slots", "Requests that may be at the backend at once", float64(b.Slots), label...)
	e.gauge("backend_slots_limit", "Requests that may be at the backend now: less than backend_slots while it is slow, or just back", float64(b.Limit), label...)
	e.gauge("backend_slots_busy", "Requests that are at the backend", float64(b.Busy), label...)
	e.gauge("backend_queued", "Requests that wait for a slot", float64(b.Waiting), label...)
	e.gauge("backend_breaker_open", "1 while the backend gets no requests because it failed", one(b.Open), label...)
	e.counter("backend_withheld_total", "Logins that were not checked, so that the backend does not lock out postern", float64(b.Withheld), label...)
	e.gauge("backend_slowed_seconds", "Delay that the backend imposed on the last login from here", b.Slowed.Seconds(), label...)
}

func (e exposition) domain(name string, s memory.Stats) {
	label := []string{"domain", name}
	e.gauge("cache_users", "Users in memory of which more than refusals is known", float64(s.Users), label...)
	e.gauge("cache_strangers", "Users in memory of which only refusals are known", float64(s.Strangers), label...)
	e.counter("cache_hashes_total", "New password hashes", float64(s.Hashes), label...)
	e.counter("cache_compares_total", "Comparisons with stored password hashes", float64(s.Compares), label...)
	e.gauge("cache_writes_failing", "Parts of the cache whose last write to disk failed", float64(s.StoreFailing), label...)
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
