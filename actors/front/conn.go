package front

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"postern/actors/call"
	"postern/internal/auth"
	"postern/wire"
)

// burst is how many bytes of answers are gathered into one write.
const burst = 4096

// inThePast is a deadline that ends a Read or Write at once.
var inThePast = time.Unix(1, 0)

// conn is one connection. The methods of its reader run on the goroutine of its worker; flush and
// what it calls, in the worker's actor; the others, anywhere.
type conn struct {
	server    *Server
	worker    *connWorker
	web       *webConn // that net/http serves; nil: a worker does
	listener  *listener
	params    *params // of the time at which it began
	codec     wire.Codec
	unordered wire.Unordered // the codec, if answers may overtake each other
	anySlot   bool           // a request takes any slot of the ring that is free
	socket    net.Conn
	proxied   *proxied // the socket, if a proxy speaks first; or nil
	from      peer
	since     time.Time
	active    atomic.Int64 // when the last request came, or the connection; Unix nanoseconds

	// ring[n%len] is the n-th request, from its admission until its answer is encoded. Where
	// answers may overtake each other (anySlot), a request takes any slot that is free.
	ring       []atomic.Pointer[call.Call]
	admitted   atomic.Uint64 // requests
	written    atomic.Uint64 // answers: the number of the request whose turn is next
	room       chan struct{} // has one when answers were written
	readClosed atomic.Bool   // no request follows
	peerGone   atomic.Bool   // the peer takes no more answers
	expelled   atomic.Bool   // after a reload its peer may not connect any more
	hungUp     atomic.Bool   // the end of the connection was the answer to a request
	flushed    chan struct{} // closed when every answer has left

	reporting sync.Mutex
	reports   []byte // of changes, encoded, not yet in pending
	watched   string // the domain of which changes are reported

	// For flush and what it calls.
	ended           bool   // flushed is closed
	closeAfterFlush bool   // the answer to a request is to end the connection
	encoded         uint64 // answers in pending, or written
	leaving         int64  // calls answered there that the gate counts
	pending         []byte // encoded, not yet written
	writeDeadline   time.Time
}

func newConn(w *connWorker, l *listener, a arrival) (*conn, error) {
	p := l.params.Load()
	codec, err := p.newCodec()
	if err != nil {
		return nil, err
	}
	pipeline := p.Pipeline
	if codec.OneShot() {
		pipeline = 1
	}
	c := &conn{
		server: w.server, worker: w, listener: l, params: p, codec: codec, socket: a.socket, proxied: a.proxied, from: a.from, since: time.Now(),
		ring: make([]atomic.Pointer[call.Call], pipeline), room: make(chan struct{}, 1), flushed: make(chan struct{}),
	}
	c.unordered, c.anySlot = codec.(wire.Unordered)
	c.active.Store(c.since.UnixNano())
	return c, nil
}

// busy reports whether a request is under way.
func (c *conn) busy() bool { return c.written.Load() != c.admitted.Load() }

// ending reports whether the connection is to end after its requests in flight: the process stops,
// the listener was removed, or its peer may not connect any more.
func (c *conn) ending() bool {
	return c.server.closing.Load() || c.unread() || c.listener.removed.Load() || c.expelled.Load()
}

// unread reports whether the process drains, and what the peer may send yet is left unread: its connection
// ends, and it asks the next process. A refusal would be a failed login, and in some protocols it would be a
// "no". Where a reply can say that a request was not begun, requests are answered so instead.
func (c *conn) unread() bool {
	_, postpones := c.codec.(wire.Postponer)
	return c.server.draining.Load() && !postpones
}

// endReading ends the reader's wait for input, now or the next time.
func (c *conn) endReading() {
	if c.web != nil {
		again := c.web.ended.Swap(true)
		if again || c.busy() { // net/http would take the end of its input for the end of its client, and it may be writing yet
			return
		}
	}
	_ = c.socket.SetReadDeadline(inThePast)
}

// Answered implements call.Asker.
func (c *conn) Answered(*call.Call) { c.worker.wake() }

// sweep answers the calls that are past their deadlines.
func (c *conn) sweep(now time.Time) {
	size := uint64(len(c.ring))
	from := c.written.Load()
	to := min(c.admitted.Load(), from+size)
	if c.anySlot {
		from, to = 0, size
	}
	for ; from < to; from++ {
		if call := c.ring[from%size].Load(); call != nil && now.After(call.Deadline) {
			call.Unavailable(auth.SourceDeadline)
		}
	}
}

// greet sends the greeting of a protocol in which the server speaks first. It is false if the peer
// is gone already; the connection is closed then.
func (c *conn) greet() bool {
	g, ok := c.codec.(wire.Greeter)
	if !ok {
		return true
	}
	c.armWrite()
	if _, err := c.socket.Write(g.Greeting()); err != nil {
		_ = c.socket.Close()
		return false
	}
	return true
}

// flush writes all answers that are ready and have their turn, one write per burst.
func (c *conn) flush() {
	c.write() // what a panic left behind
	if c.unordered != nil {
		c.encodeReady()
	} else {
		c.encodeNext()
		c.encodeReports()
	}
	c.write()
	if c.closeAfterFlush && !c.hungUp.Load() {
		c.hangUp()
	}
	if c.readClosed.Load() && !c.busy() && !c.ended {
		c.ended = true
		close(c.flushed)
	}
}

// encodeNext encodes the answers that are next in order.
func (c *conn) encodeNext() {
	for c.encoded != c.admitted.Load() {
		slot := &c.ring[c.encoded%uint64(len(c.ring))]
		call := slot.Load()
		if call == nil || !call.Done() {
			return
		}
		answer := call.Reply()
		if call.Req.Info {
			answer.Changed, answer.Disabled = c.server.changes.State(call.ID)
			answer.Disabled = answer.Disabled || answer.Barred
		}
		if call.Req.Bearer && answer.Verdict == auth.Deny && call.Domain != nil { // it is the answer of that domain
			answer.Body = wire.TokenRefused(wire.Bearer(call.Domain.Told))
		}
		c.pending = c.codec.AppendAnswer(c.pending, &call.Req, answer)
		switch {
		case call.Req.Op == auth.OpWatch:
			c.watch(call, answer)
		case call.Req.Op == auth.OpScram && answer.Verdict == auth.Allow: // nothing is decided yet
		default:
			c.params.ledger.Note(call, c)
		}
		c.free(slot, call)
	}
}

// encodeReady encodes every answer that there is. Hanging up, which may be one, comes after
// the others.
func (c *conn) encodeReady() {
	for i := range c.ring {
		slot := &c.ring[i]
		call := slot.Load()
		if call == nil || !call.Done() {
			continue
		}
		if call.Req.Op != auth.OpNone { // else the answer is the codec's own
			c.params.ledger.Note(call, c)
		}
		answer := call.Reply()
		if c.unordered.ClosesAfterFlush(&call.Req, answer) {
			c.closeAfterFlush = true
		} else {
			c.pending = c.codec.AppendAnswer(c.pending, &call.Req, answer)
		}
		c.free(slot, call)
	}
}

// free frees the slot of a call after its answer has been encoded.
func (c *conn) free(slot *atomic.Pointer[call.Call], call *call.Call) {
	slot.Store(nil)
	c.encoded++
	if call.Counted {
		c.leaving++
	}
	if len(c.pending) >= burst {
		c.write()
	}
}

// write sends what is encoded, and lets as many requests in.
func (c *conn) write() {
	if c.written.Load() == c.encoded && len(c.pending) == 0 {
		return
	}
	if len(c.pending) > 0 && !c.peerGone.Load() {
		c.armWrite()
		if _, err := c.socket.Write(c.pending); err != nil {
			// The peer is gone, or does not read. Its further answers go nowhere.
			c.peerGone.Store(true)
			c.server.env.Log.Debug("answers could not be delivered", "front", c.params.Name, "err", err)
			_ = c.socket.Close() // ends the reader's wait
		}
	}
	if cap(c.pending) > 4*burst {
		c.pending = nil
	}
	c.pending = c.pending[:0]
	c.written.Store(c.encoded)
	c.server.gate.Leave(c.leaving)
	c.leaving = 0
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// armWrite sets the write deadline, but not for each write: it is renewed when half of it
// has passed.
func (c *conn) armWrite() {
	if c.params.WriteTimeout == 0 {
		return
	}
	now := time.Now()
	if c.writeDeadline.Sub(now) < c.params.WriteTimeout/2 {
		c.writeDeadline = now.Add(c.params.WriteTimeout)
		_ = c.socket.SetWriteDeadline(c.writeDeadline)
	}
}

// hangUp ends the connection from this side, which answers what is still under way as well. The
// reader drops what the peer may still send, so that the answers before arrive.
func (c *conn) hangUp() {
	c.peerGone.Store(true)
	c.hungUp.Store(true)
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	c.endReading()
}
