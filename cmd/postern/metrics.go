package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"postern/internal/config"
)

// Bounds on who reads the metrics, and for how long.
const (
	metricsReaders = 16
	metricsTimeout = 10 * time.Second
	countsPatience = 2 * time.Second // for the parts of the cache to tell theirs
)

// metricsServer serves /metrics of a daemon.
type metricsServer struct {
	server  *http.Server
	address string // as configured
	done    chan struct{}
}

// openMetrics opens the address of a configuration's metrics; it is nil where there is none.
func openMetrics(cfg *config.Config) (net.Listener, error) {
	if cfg.Metrics == "" {
		return nil, nil
	}
	return openSocket(config.Listener{Name: "metrics", Network: "tcp", Address: cfg.Metrics})
}

// serveMetrics starts to serve on a socket that is open already; without one it does nothing.
func serveMetrics(d *daemon, socket net.Listener) *metricsServer {
	if socket == nil {
		return nil
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), newCollector(d),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	quiet := slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: quiet, EnableOpenMetrics: true, MaxRequestsInFlight: metricsReaders,
	}))
	s := &metricsServer{address: d.cfg.Metrics, done: make(chan struct{}), server: &http.Server{
		Handler: mux, ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout, MaxHeaderBytes: 16 << 10, ErrorLog: quiet,
	}}
	d.log.Info("serving metrics", "address", socket.Addr().String())
	go func() {
		defer close(s.done)
		if err := s.server.Serve(netutil.LimitListener(socket, metricsReaders)); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("metrics are no longer served", "err", err)
		}
	}()
	return s
}

// at is where the metrics are served; it is empty where they are not.
func (s *metricsServer) at() string {
	if s == nil {
		return ""
	}
	select {
	case <-s.done:
		return ""
	default:
		return s.address
	}
}

func (s *metricsServer) close() {
	if s != nil {
		_ = s.server.Close()
		<-s.done
	}
}

// collector reads the daemon's counts when somebody asks for them.
type collector struct{ daemon *daemon }

func newCollector(d *daemon) prometheus.Collector { return collector{d} }

// Describe implements prometheus.Collector. It describes nothing, since which series there are
// follows from the configuration.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countsPatience)
	defer cancel()
	d := c.daemon
	counts, err := d.broker.Counts(ctx)
	e := exposition(out)
	e.process(d)
	e.broker(counts)
	e.gauge("cache_stalled", "1 if a part of the cache did not tell its counts in time", one(err != nil))
	for name, front := range counts.Fronts {
		e.front(name, front)
	}
	for name, backend := range counts.Backends {
		e.backend(name.String(), backend)
	}
	for name, stats := range counts.Domains {
		e.domain(name, stats)
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
