package front

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/actors/call"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/wire"
)

// mailboxLimit bounds the queues of listeners and connections. Their messages are wake-ups, of which
// one at a time is under way.
const mailboxLimit = 64

// idleWorkers is how many workers a listener keeps for connections to come.
const idleWorkers = 128

// Pauses of a listener while Accept fails, as when file descriptors run out.
const (
	acceptPause    = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// params are what the connections of a listener have in common. Those that begin after a reload have
// others.
type params struct {
	config.Listener
	ledger    *call.Ledger
	closed    auth.Answer // to a change, if the listener takes none from this peer
	admission *admission
	web       *web // of the protocol http; nil: it has a codec of bytes
}

func (s *Server) newParams(cfg config.Listener) (p *params, err error) {
	p = &params{
		Listener: cfg, ledger: call.NewLedger(cfg.Name, s.decisions.Front(cfg.Name), s.env.Log, s.env.Audit, s.env.Recent),
		admission: s.newAdmission(cfg),
		closed: auth.Answer{
			Verdict: auth.Unsupported, Source: auth.SourceForbidden,
			Reason: "this listener takes no changes of accounts from this peer: " + cfg.ChangesLine() + " if its peers may make them",
		},
	}
	if wire.Protocol(cfg.Protocol) == wire.HTTPProtocol {
		p.web, err = s.newWeb(cfg)
	} else {
		_, err = p.newCodec()
	}
	return p, err
}

// returnsAccount reports whether the answer to a request names the account, so that a login may lead to
// another one than the name asked.
func (p *params) returnsAccount(req *auth.Request) bool {
	return wire.Protocol(p.Protocol) == wire.Dovecot || p.web != nil && req.Named
}

// service is that of a login for which the peer has named one, or none: what speaks the protocols of XMPP
// servers without a name is one of them.
func (p *params) service(named string) string {
	if named != "" {
		return auth.FoldService(named)
	}
	return wire.Protocol(p.Protocol).Service()
}

// newCodec returns the codec of a connection.
func (p *params) newCodec() (wire.Codec, error) {
	table := wire.Mailbox
	if p.Logins {
		table = wire.Login
	}
	return wire.New(wire.Protocol(p.Protocol), wire.Options{
		MaxFrame: p.MaxFrame, BinaryAnswers: p.BinaryAnswers, RecipientDelimiter: p.RecipientDelimiter,
		DefaultDomain: p.DefaultDomain, FixedDomain: p.FixedDomain, Table: table,
		Bearer: wire.Bearer(p.Bearer),
		Userdb: wire.Userdb{UID: p.Userdb.UID, GID: p.Userdb.GID, Home: p.Userdb.Home},
	})
}

// arrival is a connection that was accepted.
type arrival struct {
	socket  net.Conn
	proxied *proxied // the socket, if a proxy speaks first; or nil
	from    peer
}

// listener is one endpoint. It outlives restarts of its actor: the socket stays open.
type listener struct {
	server    *Server
	socket    net.Listener
	ref       *supervise.Ref
	params    atomic.Pointer[params] // of new connections
	limit     *connLimit
	workers   *supervise.IdleWorkers[arrival]
	crowdLog  supervise.LogThrottle
	strangers supervise.LogThrottle
	accepting atomic.Bool
	closed    atomic.Bool
	removed   atomic.Bool // by a reload: its connections end
}

func (s *Server) newListener(cfg config.Listener, socket net.Listener) (*listener, error) {
	p, err := s.newParams(cfg)
	if err != nil {
		return nil, err
	}
	if p.web != nil && open(socket, cfg) {
		return nil, errOpen
	}
	l := &listener{
		server: s, socket: socket, limit: newConnLimit(cfg.MaxConnections),
		workers: supervise.NewIdleWorkers[arrival](idleWorkers),
	}
	l.params.Store(p)
	return l, nil
}

// start starts the actor.
func (l *listener) start() (err error) {
	system := l.server.env.System
	name := system.ReserveName("listener:" + l.params.Load().Name) // one that was removed may be on its way out
	l.ref, err = system.Spawn(name, mailboxLimit, func(self *supervise.Ref) actor.Actor { return &listenerActor{l, self} })
	return err
}

// close closes the socket; connections stay. Server.mu is held.
func (l *listener) close() {
	if !l.closed.Swap(true) {
		_ = l.socket.Close()
		l.workers.Close()
	}
}

// accept takes connections until the socket is closed.
func (l *listener) accept(self *supervise.Ref) {
	defer l.server.goroutines.Done()
	defer func() {
		l.accepting.Store(false)
		if web := l.params.Load().web; web != nil && l.closed.Load() {
			web.retire()
		}
		if reason := recover(); reason != nil {
			self.Send(&acceptFailed{reason})
		}
	}()
	pause := time.Duration(0)
	for {
		l.limit.enter()
		socket, err := l.socket.Accept()
		if err != nil {
			l.limit.leave()
			if l.closed.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			pause = min(max(2*pause, acceptPause), maxAcceptPause)
			l.server.env.Log.Error("connection could not be accepted; trying again", "listener", l.params.Load().Name, "pause", pause, "err", err)
			time.Sleep(pause)
			continue
		}
		pause = 0
		a := arrival{socket: socket, from: peerOf(socket)}
		if !l.admits(a.from) || !l.unwrap(&a) {
			_ = socket.Close()
			l.limit.leave()
			continue
		}
		if c, crowded := l.limit.came(a.from.uid); crowded && !l.makeRoom(c) {
			_ = socket.Close()
			l.limit.went(a.from.uid)
			continue
		}
		l.server.arriving.Add(1)
		if l.params.Load().web != nil {
			l.carry(a)
		} else if !l.workers.Offer(a) {
			l.server.goroutines.Add(1)
			go l.serve(a)
		}
	}
}

// serve starts a worker, which serves a connection and then others. From here to the read for which an idle
// connection waits, frames are small: the collector halves a stack of which less than a quarter is in use.
func (l *listener) serve(a arrival) {
	defer l.server.goroutines.Done()
	w := l.hire(&a)
	if w == nil {
		return
	}
	defer w.ref.Stop()
	at := make(chan arrival, 1)
	for ok := true; ok; a, ok = l.workers.Wait(at) {
		w.serve(l, &a)
		l.limit.went(a.from.uid)
		if w.worn() {
			return
		}
	}
}

// hire starts a worker for a connection; nil if that fails, and the connection is closed.
//
//go:noinline
func (l *listener) hire(a *arrival) *connWorker {
	w, err := l.server.newWorker(l.params.Load().Name)
	if err != nil {
		l.server.env.Log.Error("connection refused", "front", l.params.Load().Name, "err", err)
		_ = a.socket.Close()
		l.server.arriving.Add(-1)
		l.limit.went(a.from.uid)
	}
	return w
}

// acceptFailed tells the actor that its accept goroutine panicked.
type acceptFailed struct{ reason any }

// listenerActor keeps an accept goroutine running.
type listenerActor struct {
	*listener
	self *supervise.Ref
}

// Receive implements actor.Actor.
func (l *listenerActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		if l.accepting.CompareAndSwap(false, true) && l.server.begin() {
			go l.accept(l.self)
		}
	case *acceptFailed:
		panic(m.reason)
	}
}
