package actors

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/config"
	"postern/wire"
)

// connQueue bounds a connection's mailbox; its messages are wake-ups, of which one at a time
// is under way.
const connQueue = 64

// Pauses of a listener whose Accept fails, as when file descriptors run out.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// listener is one endpoint. It outlives restarts of its actor: the socket stays open.
type listener struct {
	front     atomic.Pointer[front] // of new connections
	name      string                // of the actor
	cfg       config.Listener       // under Broker.mu
	broker    *Broker
	socket    net.Listener
	pid       *actor.PID
	accepting atomic.Bool
	slots     *capacity // of connections
	seats     *parking[net.Conn]
	closed    atomic.Bool
	gone      atomic.Bool // taken away by a reload: its connections end
}

// close closes the socket; connections stay. Broker.mu is held.
func (l *listener) close() {
	if !l.closed.Swap(true) {
		_ = l.socket.Close()
		l.seats.close()
	}
}

// acceptFailed tells the actor that its accept goroutine panicked.
type acceptFailed struct{ reason any }

// listenerActor keeps an accept goroutine running.
type listenerActor struct{ *listener }

// Receive implements actor.Actor.
func (l listenerActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		if l.accepting.CompareAndSwap(false, true) && l.broker.goesOn() {
			go l.accept()
		}
	case *acceptFailed:
		panic(m.reason)
	}
}

// goesOn reports whether Stop has yet to begin, and then has it wait for one more goroutine.
func (b *Broker) goesOn() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopping {
		return false
	}
	b.idle.Add(1)
	return true
}

// newFront derives what connections share from a listener's block.
func (b *Broker) newFront(cfg config.Listener) *front {
	return &front{
		name: cfg.Name, protocol: wire.Protocol(cfg.Protocol),
		options:       wire.Options{MaxFrame: cfg.MaxFrame, BinaryAnswers: cfg.BinaryAnswers, RecipientDelimiter: cfg.RecipientDelimiter},
		defaultDomain: cfg.DefaultDomain,
		deadline:      cfg.Deadline, idleTimeout: cfg.IdleTimeout, frameTimeout: cfg.FrameTimeout,
		writeTimeout: cfg.WriteTimeout, pipeline: cfg.Pipeline, counters: b.countersOf(cfg.Name),
	}
}

// Listen starts to accept on a socket that the caller has opened and that the broker closes
// at its end.
func (b *Broker) Listen(cfg config.Listener, socket net.Listener) error {
	if _, err := wire.New(wire.Protocol(cfg.Protocol), wire.Options{}); err != nil {
		return fmt.Errorf("listener %q: %w", cfg.Name, err)
	}
	l := &listener{
		name: b.sys.unused("listener:" + cfg.Name), cfg: cfg, broker: b, socket: socket, slots: newCapacity(cfg.MaxConnections),
		seats: newParking[net.Conn](parkedSeats),
	}
	l.front.Store(b.newFront(cfg))
	b.mu.Lock()
	b.listeners = append(b.listeners, l)
	b.mu.Unlock()
	l.pid = b.sys.NewLocalPID(l.name)
	_, err := b.sys.spawnRoot(l.name, connQueue, true, func() actor.Actor { return listenerActor{l} })
	return err
}

// accept takes connections until the socket is closed.
func (l *listener) accept() {
	defer l.broker.idle.Done()
	defer func() {
		l.accepting.Store(false)
		if reason := recover(); reason != nil {
			l.broker.sys.Root.Send(l.pid, &acceptFailed{reason})
		}
	}()
	pause := time.Duration(0)
	for {
		l.slots.enter()
		socket, err := l.socket.Accept()
		if err != nil {
			l.slots.leave()
			if l.closed.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			pause = min(max(2*pause, acceptPause), acceptPauseMax)
			l.broker.log.Error("connection could not be accepted; trying again", "listener", l.front.Load().name, "pause", pause, "err", err)
			time.Sleep(pause)
			continue
		}
		pause = 0
		l.broker.arriving.Add(1)
		if !l.seats.offer(socket) {
			l.broker.idle.Add(1)
			go l.attend(socket)
		}
	}
}

// serve runs one connection to its end, on the caller's goroutine.
func (b *Broker) serve(s *seat, from *listener, f *front, in io.Reader, out io.Writer, socket net.Conn) {
	c := b.join(s, from, f, in, out, socket)
	if socket != nil {
		b.arriving.Add(-1)
	}
	if c == nil {
		return
	}
	if socket != nil && c.ending() { // closeConns or takeAway did not see this one
		_ = socket.SetReadDeadline(time.Unix(1, 0))
	}
	if c.greet() {
		c.read()
	}
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
	s.conn.Store(nil)
}

// join makes a connection of the broker, or nil if that is not possible.
func (b *Broker) join(s *seat, from *listener, f *front, in io.Reader, out io.Writer, socket net.Conn) *conn {
	codec, err := wire.New(f.protocol, f.options)
	if err != nil { // checked before, see Listen and Pipe
		b.log.Error("connection refused", "front", f.name, "err", err)
		return nil
	}
	depth := f.pipeline
	if codec.OneShot() {
		depth = 1
	}
	c := &conn{
		broker: b, seat: s, from: from, front: f, codec: codec, in: in, out: out, net: socket, since: time.Now(),
		ring: make([]atomic.Pointer[Call], depth), credits: make(chan struct{}, depth),
		flushed: make(chan struct{}),
	}
	c.loose, _ = codec.(wire.Unordered)
	s.conn.Store(c)
	b.connSeq.Add(1)
	b.mu.Lock()
	b.conns[c] = struct{}{}
	b.mu.Unlock()
	return c
}

// Pipe serves one protocol on a pair of streams, such as stdin and stdout, until the input
// ends and every answer has left.
func (b *Broker) Pipe(cfg config.Listener, in io.Reader, out io.Writer) error {
	codec, err := wire.New(wire.Protocol(cfg.Protocol), wire.Options{})
	if err != nil {
		return err
	}
	if _, ok := codec.(wire.Unordered); ok {
		return fmt.Errorf("protocol %s needs a socket: it hangs up for an answer", cfg.Protocol)
	}
	f := b.newFront(cfg)
	s, err := b.newSeat(f.name)
	if err != nil {
		return err
	}
	defer s.close()
	b.serve(s, nil, f, in, out, nil)
	return nil
}
