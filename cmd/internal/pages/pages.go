// Package pages carries the pages of the web block over HTTP: a server for each, on a socket of its own.
package pages

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"postern/cmd/internal/listen"
	"postern/internal/config"
)

// Bounds of a server. Behind a reverse proxy, few connections are open; browsers that come by themselves keep a few
// each.
const (
	maxConnections = 512
	headerTimeout  = 10 * time.Second
	readTimeout    = 20 * time.Second
	writeTimeout   = 90 * time.Second // from the end of the header: the checks of doctor take a while
	idleTimeout    = time.Minute
	maxHeader      = 16 << 10
	stopTimeout    = 3 * time.Second
)

// Open opens the socket of a page.
func Open(p *config.Page) (net.Listener, error) { return listen.Open(p.Socket) }

// Server serves a page. A nil Server serves nothing.
type Server struct {
	name   string
	log    *slog.Logger
	socket net.Listener
	http   http.Server
	live   atomic.Pointer[content]
	done   chan struct{}
}

// content is what is served at the moment: a reload exchanges it.
type content struct {
	handler http.Handler
	tls     *tls.Config // nil: without
}

// Serve starts to serve a page on its socket, which it closes.
func Serve(name string, p *config.Page, socket net.Listener, log *slog.Logger, secure config.TLS, h http.Handler) (*Server, error) {
	s := &Server{name: name, log: log, socket: socket, done: make(chan struct{})}
	if err := s.Replace(secure, h); err != nil {
		return nil, err
	}
	s.http = http.Server{
		Handler:     http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.live.Load().handler.ServeHTTP(w, r) }),
		ReadTimeout: readTimeout, ReadHeaderTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.With("page", name).Handler(), slog.LevelDebug), Protocols: new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)
	log.Info("serving a page", "page", name, "address", listen.ShownAddress(p.Socket, socket), "url", p.Origin)
	go func() {
		defer close(s.done)
		if err := s.http.Serve(accepted{netutil.LimitListener(socket, maxConnections), s}); !errors.Is(err, http.ErrServerClosed) {
			log.Error("a page is no longer served", "page", name, "err", err)
		}
	}()
	return s, nil
}

// Replace has requests from now on, and the TLS of new connections, answered by others. Without a handler, the one
// before stays.
func (s *Server) Replace(secure config.TLS, h http.Handler) error {
	c := &content{handler: h}
	if h == nil {
		c.handler = s.live.Load().handler
	}
	var err error
	if c.tls, err = secure.Server("h2", "http/1.1"); err != nil {
		return err
	}
	s.live.Store(c)
	return nil
}

// Close ends the server: it waits a moment for the requests under way.
func (s *Server) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.done
}

// accepted puts TLS over the connections of a listener, if there is any at the moment.
type accepted struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (a accepted) Accept() (net.Conn, error) {
	c, err := a.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if secure := a.server.live.Load().tls; secure != nil {
		return tls.Server(c, secure), nil
	}
	return c, nil
}
