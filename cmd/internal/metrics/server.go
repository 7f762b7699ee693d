// Package metrics serves /metrics of a daemon in Prometheus' and OpenMetrics' formats.
//
// The broker counts; a Snapshot of its counts is taken at each scrape and given names here.
// Dashboards and alerts rely on those names: add to them as needed, but do not rename.
package metrics

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of the HTTP server.
const (
	maxScrapes = 16 // at once
	timeout    = 10 * time.Second
)

// Server serves /metrics. A nil Server serves nothing.
type Server struct {
	server  *http.Server
	address string // as configured
	done    chan struct{}
}

// Serve starts to serve on a socket, which it closes; without one it returns nil. address is what
// Address returns. take is called at each scrape, also by several goroutines at once.
func Serve(socket net.Listener, address string, log *slog.Logger, take func() Snapshot) *Server {
	if socket == nil {
		return nil
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collector{take},
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	quiet := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: quiet, EnableOpenMetrics: true, MaxRequestsInFlight: maxScrapes,
	}))
	s := &Server{address: address, done: make(chan struct{}), server: &http.Server{
		Handler: mux, ReadTimeout: timeout, WriteTimeout: timeout, MaxHeaderBytes: 16 << 10, ErrorLog: quiet,
	}}
	log.Info("serving metrics", "address", socket.Addr().String())
	go func() {
		defer close(s.done)
		if err := s.server.Serve(netutil.LimitListener(socket, maxScrapes)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are no longer served", "err", err)
		}
	}()
	return s
}

// Address returns where the metrics are served, "" if they are not.
func (s *Server) Address() string {
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

// Close ends the server and its connections.
func (s *Server) Close() {
	if s != nil {
		_ = s.server.Close()
		<-s.done
	}
}
