package front

import (
	"strconv"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"postern/actors/supervise"
)

// connWorker is what serves a connection: a goroutine that reads, and an actor that writes. Where
// every request comes on a connection of its own, starting and stopping the two would cost as much
// as the answer; so a worker serves one connection after another. All that belongs to a connection
// is in its conn, and a call knows its conn: an answer that comes late, for a connection that has
// ended, is no more than a wake-up for the next one.
//
// The actor is not woken up while the goroutine attends, that is, between runner.Attend and settle:
// then the answers that come meanwhile are written by settle, at once. The goroutine calls settle
// before it waits for anything: input, room in the ring, or the last answer. No answer stays behind:
//
//   - An answer is in the ring's call before wake is called, and the call is in the ring before the
//     goroutine waits for the next time. (One that is given before that, as a refusal is, is given by
//     the goroutine itself, which attends.)
//   - Notify, Attend and settle's Settle are operations on one atomic value, so they have an order.
//     If Notify is true, a Settle follows it, which is true as well, and a flush follows that.
//   - If Notify is false, a wake message is in the actor's mailbox (waking), or is sent now. The
//     actor resets waking before it flushes, so a flush follows.
//   - A flush that panics, or whose message is dropped by a restart, is followed by that of Started.
type connWorker struct {
	server *Server
	ref    *supervise.Ref
	runner supervise.Runner
	conn   atomic.Pointer[conn] // nil between connections
	waking atomic.Bool          // a wake message is in the mailbox
	lives  atomic.Int32         // of the actor: one, and one for each restart
	input  []byte               // the small buffer of its readers, one after the other
}

// wake has the actor write the answers that are ready.
type wake struct{}

var wakeMessage = new(wake) // it costs nothing to send

// newWorker starts the actor of a worker. The caller's goroutine reads.
func (s *Server) newWorker(front string) (*connWorker, error) {
	w := &connWorker{server: s, input: make([]byte, smallBuffer)}
	name := "conn:" + front + ":" + strconv.FormatUint(s.started.Add(1), 10)
	var err error
	w.ref, err = s.env.System.Spawn(name, mailboxLimit, func(*supervise.Ref) actor.Actor {
		w.lives.Add(1)
		return connActor{w}
	}, supervise.Unlisted())
	return w, err
}

// worn reports whether the actor has panicked: the next restart would be delayed, and the next
// connection suffer for it.
func (w *connWorker) worn() bool { return w.lives.Load() > 1 }

// serve serves a connection to its end. Where a protocol has one request per connection, but the
// peer sends another one after its answer, that is served as if it came on a connection of its own.
func (w *connWorker) serve(l *listener, a *arrival) {
	w.server.opened.Add(1)
	for first, came := true, 0; first || came > 0; first = false {
		came = w.serveOnce(l, a, first, came)
	}
}

// serveOnce serves a connection, of which the first bytes may be in w.input, to its end or to the
// beginning of the next request: of that it returns how many bytes came.
func (w *connWorker) serveOnce(l *listener, a *arrival, first bool, came int) (next int) {
	c := w.begin(l, a, first)
	if c == nil {
		return 0
	}
	if c.greet() {
		next = newReader(c, came).read()
	}
	w.server.leave(c)
	w.conn.Store(nil)
	return next
}

// begin makes the conn of a connection; nil if the connection is refused.
//
//go:noinline
func (w *connWorker) begin(l *listener, a *arrival, first bool) *conn {
	c, err := newConn(w, l, *a)
	if err == nil {
		w.conn.Store(c)
		w.server.join(c)
	}
	if first {
		w.server.arriving.Add(-1)
	}
	if err != nil { // not with the protocol of a listener
		w.server.env.Log.Error("connection refused", "front", l.params.Load().Name, "err", err)
		_ = a.socket.Close()
		return nil
	}
	if !l.params.Load().admission.admits(a.from.uid, c.since) { // Change came after accept
		c.expelled.Store(true)
	}
	if c.ending() { // CloseConnections or remove came before join
		c.endReading()
	}
	return c
}

// wake says, from any goroutine, that an answer may be ready.
func (w *connWorker) wake() {
	if !w.runner.Notify() && w.waking.CompareAndSwap(false, true) {
		w.ref.Send(wakeMessage)
	}
}

// settle has the actor write the answers that are ready, on the worker's own goroutine, which calls
// it; from now until the next Attend the actor is woken up by others. always is for when there may be
// something to do without an answer.
func (w *connWorker) settle(always bool) {
	if (w.runner.Settle() || always) && w.waking.CompareAndSwap(false, true) {
		w.ref.SendBy(&w.runner, wakeMessage)
	}
}

// connActor writes the answers of the connection that is being served.
type connActor struct{ *connWorker }

// Receive implements actor.Actor.
func (a connActor) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started, *wake:
		a.waking.Store(false)
		if c := a.conn.Load(); c != nil {
			c.flush()
		}
	}
}
