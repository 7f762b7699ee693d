// Package front is where clients connect: listeners, and connections on which a protocol of package
// wire is spoken.
//
// A connection is served by a connWorker: a goroutine that reads, and an actor that writes. The
// goroutine decodes requests, puts each into the connection's ring, and sends it on its way through
// the Router. When a call has its answer the actor is woken up and writes all answers that are
// ready, in the order of the requests if the protocol wants that. What the two have in common is the
// ring, which outlives a restart of the actor: any wake-up, even the first after a restart, writes
// everything that is ready. So a wake-up too many is harmless, and only one too few must not happen;
// see connWorker.
//
// The first bytes of a connection are compared with other protocols (wire.Recognise): one that has
// come to the wrong port is closed there, without an answer, and so is a process on a Unix socket whose
// user the listener does not name (see admission). Requests that change accounts are refused unless the
// listener's block allows them. When connections run out, one that is idle makes room.
//
// HTTP is carried by net/http, which reads and writes: see web. Its requests become calls by the same
// code, and take slots of their connection's ring; a goroutine per request waits for the answer.
//
// While the goroutine has input to decode it runs the actors to which it sends, its own included, so
// that a request which memory can answer takes no switch of goroutines, and all requests of one read
// are answered by one write. It never runs the actor of another connection: that may block in a
// write to a peer which does not read.
package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postern/actors/call"
	"postern/actors/changes"
	"postern/actors/env"
	"postern/actors/metrics"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/config"
)

// Router sends calls on their way. Its methods are called by the goroutine of a connection, and must
// not block.
type Router interface {
	// Prepare finds out what a call is about. It is false if the call is not to be routed: then
	// it has its answer. defaultDomain is for requests that name none.
	Prepare(c *call.Call, defaultDomain string) bool
	// Route sends a call that was prepared to the actor that deals with it. run is that of the
	// calling goroutine.
	Route(run *supervise.Runner, c *call.Call)
	// Users lists the users of a domain in canonical form. Unlike the others it waits for backends.
	Users(ctx context.Context, domain string) ([]string, error)
	// Limited reports whether an account's domain takes no unknown password from a client's address now.
	Limited(id auth.Identity, client string) bool
	// Refused counts a password of which hash stands for account and password: another server has refused it. front
	// is the name of the listener.
	Refused(front string, id auth.Identity, client, hash string)
	// XMPPUser returns the user of an identity as the XMPP server of its domain has it.
	XMPPUser(id auth.Identity) string
}

// newConnGrace is how old a connection without a request may be when the drain begins and still be
// waited for, for as long: a client that has just connected has a request on its way.
const newConnGrace = 500 * time.Millisecond

// errStopping is why no listener is started any more.
var errStopping = errors.New("postern is stopping")

// Server has the listeners and connections of the process. Its methods are safe for concurrent use,
// but of Listen and Change only one may run at a time.
type Server struct {
	env       env.Env
	router    Router
	gate      *call.Gate
	decisions *metrics.Decisions
	changes   *changes.Log // what connections watch; nil: nothing
	uid       func(user string) (int, error)
	own       func(uid int) bool

	opened     atomic.Uint64  // connections since the start
	started    atomic.Uint64  // workers since the start
	arriving   atomic.Int64   // connections accepted that are not in conns yet
	draining   atomic.Bool    // see conn.unread
	closing    atomic.Bool    // connections end after their requests in flight
	goroutines sync.WaitGroup // that accept or serve
	listing    sync.Mutex     // held while the users of a domain are listed

	mu        sync.Mutex
	listeners []*listener
	conns     map[*conn]struct{}
	stopping  bool // Stop has begun
}

// NewServer returns a server without listeners. gate counts the calls of all connections, and
// decisions their answers; changes are what connections may watch.
func NewServer(e env.Env, r Router, gate *call.Gate, decisions *metrics.Decisions, changes *changes.Log) *Server {
	return &Server{env: e, router: r, gate: gate, decisions: decisions, changes: changes, uid: uidOf, own: own, conns: make(map[*conn]struct{})}
}

// Listen starts to accept on a socket that the caller has opened. If the error is nil, the server
// closes the socket.
func (s *Server) Listen(cfg config.Listener, socket net.Listener) error {
	l, err := s.newListener(cfg, socket)
	if err != nil {
		return fmt.Errorf("listener %q: %w", cfg.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return fmt.Errorf("listener %q: %w", cfg.Name, errStopping)
	}
	if err := l.start(); err != nil {
		return fmt.Errorf("listener %q: %w", cfg.Name, err)
	}
	s.listeners = append(s.listeners, l)
	return nil
}

// Change carries out what a reload changes about listeners: it starts the new ones on their sockets,
// by name, gives the changed ones their parameters, which hold for new connections, and removes the
// others. The connections of a removed listener, and those of users that a changed one does not admit
// any more, end when their requests in flight are answered; the users that may change accounts are others at once.
func (s *Server) Change(d config.Delta[config.Listener], sockets map[string]net.Listener) {
	for _, c := range d.Changed {
		if l := s.find(c.Old); l != nil {
			s.exchange(l, c.New)
			l.limit.set(c.New.MaxConnections)
			s.expel(l)
		}
	}
	for _, c := range d.Removed {
		if l := s.find(c); l != nil {
			s.remove(l)
		}
	}
	for _, c := range d.Added {
		if err := s.Listen(c, sockets[c.Name]); err != nil { // the caller has checked the protocol
			s.env.Log.Error("listener could not be started", "listener", c.Name, "err", err)
			_ = sockets[c.Name].Close()
		}
	}
}

// exchange gives a listener other parameters. The caller has checked them.
func (s *Server) exchange(l *listener, cfg config.Listener) {
	now, err := s.newParams(cfg)
	if err == nil && now.web != nil && open(l.socket, cfg) {
		err = errOpen
	}
	if err != nil {
		s.env.Log.Error("listener keeps its former settings", "listener", cfg.Name, "err", err)
		return
	}
	if former := l.params.Swap(now); former.web != nil {
		former.web.retire()
	}
}

// expel ends the connections of users that a listener does not admit.
func (s *Server) expel(l *listener) {
	admission, now := l.params.Load().admission, time.Now()
	for _, c := range s.connsWhere(func(c *conn) bool { return c.listener == l && !admission.admits(c.from.uid, now) }) {
		c.expelled.Store(true)
		c.endReading()
	}
}

// find returns the listener of a block.
func (s *Server) find(cfg config.Listener) *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if p := l.params.Load(); p.Name == cfg.Name && p.Address == cfg.Address {
			return l
		}
	}
	return nil
}

func (s *Server) remove(l *listener) {
	l.removed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	l.close()
	l.ref.Stop()
	s.listeners = slices.DeleteFunc(s.listeners, func(m *listener) bool { return m == l })
	for c := range s.conns {
		if c.listener == l {
			c.endReading()
		}
	}
}

// Connections is the number of connections: open now, and since the start.
func (s *Server) Connections() (open int, ever uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.opened.Load()
}

// begin has Stop wait for one more goroutine. It is false if Stop has begun.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.goroutines.Add(1)
	return true
}

func (s *Server) join(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

func (s *Server) leave(c *conn) {
	c.unwatch()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// connsWhere lists the connections for which is holds.
func (s *Server) connsWhere(is func(*conn) bool) (list []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if is(c) {
			list = append(list, c)
		}
	}
	return list
}

// Sweep answers every call that is past its deadline, whatever became of it. It is the backstop
// behind everything else, and to be called every few milliseconds while calls are in flight.
func (s *Server) Sweep(now time.Time) {
	for _, c := range s.connsWhere((*conn).busy) {
		c.sweep(now)
	}
}

// FailInFlight answers every call in flight "temporary failure".
func (s *Server) FailInFlight() {
	for _, c := range s.connsWhere((*conn).busy) {
		for i := range c.ring {
			if call := c.ring[i].Load(); call != nil {
				call.Unavailable(auth.SourceStopping)
			}
		}
	}
}

// CloseListeners closes the listening sockets; connections stay.
func (s *Server) CloseListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.close()
	}
}

// CloseConnections ends the reading of every connection; each closes itself after its last answer.
func (s *Server) CloseConnections() {
	s.closing.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.endReading()
	}
}

// drainPoll is how often a draining server looks whether all answers have left.
const drainPoll = 5 * time.Millisecond

// Drain accepts what is already in the listen backlog, closes the listeners, gives new connections a
// moment to ask, reads no further requests, closes the gate, and waits until every request that was read
// has its answer. Then it closes the connections. It reports whether that came about before the end of ctx.
func (s *Server) Drain(ctx context.Context) bool {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	while := func(lasts func() bool, ctx context.Context) bool {
		for lasts() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return false
			}
		}
		return true
	}
	briefly := func(lasts func() bool) {
		ctx, cancel := context.WithTimeout(ctx, newConnGrace)
		defer cancel()
		while(lasts, ctx)
	}
	briefly(s.queued)
	s.CloseListeners()
	briefly(s.expecting)
	s.draining.Store(true)
	for _, c := range s.connsWhere((*conn).unread) {
		c.endReading()
	}
	clean := while(s.reading, ctx)
	s.gate.Drain()
	clean = while(func() bool { return s.gate.InFlight() > 0 }, ctx) && clean
	s.CloseConnections()
	return clean
}

// queued reports whether the kernel holds connections for a listener: it would reset them, with the
// requests that they have sent, when the socket is closed.
func (s *Server) queued() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.listeners, func(l *listener) bool {
		socket, ok := l.socket.(syscall.Conn)
		if !ok || l.closed.Load() {
			return false
		}
		raw, err := socket.SyscallConn()
		if err != nil {
			return false
		}
		ready := 0
		err = raw.Control(func(fd uintptr) {
			ready, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		})
		return err == nil && ready > 0
	})
}

// expecting reports whether a connection may be about to bring its first request.
func (s *Server) expecting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.arriving.Load() > 0 || slices.ContainsFunc(s.listeners, func(l *listener) bool { return l.accepting.Load() }) {
		return true
	}
	for c := range s.conns {
		if c.admitted.Load() == 0 && time.Since(c.since) < newConnGrace {
			return true
		}
	}
	return false
}

// reading reports whether a connection that leaves requests unread may still take one in.
func (s *Server) reading() bool {
	return len(s.connsWhere(func(c *conn) bool { return c.web == nil && c.unread() && !c.readClosed.Load() })) > 0
}

// Stop ends everything, answered or not, and waits for its end, but not longer than timeout. The
// gate is closed before; calls in flight are answered "temporary failure". It may be called once.
func (s *Server) Stop(timeout time.Duration) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.CloseListeners()
	s.CloseConnections()
	s.FailInFlight()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, l := range s.listeners { // no others come
			l.ref.Stop()
		}
		for _, l := range s.listeners {
			<-l.ref.Stopped()
		}
		s.goroutines.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(timeout):
	}
}
