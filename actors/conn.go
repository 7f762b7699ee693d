package actors

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"postern/internal/auth"
	"postern/wire"
)

// burst is how many bytes of answers are gathered into one write.
const burst = 4096

// conn is one connection: the goroutine of its seat decodes and admits, and the actor of its seat
// writes the answers, in the order of the requests if the protocol wants it. What they share is the
// ring of requests in flight, which also outlives a restart of the actor: any wake-up, even the
// first after a restart, writes every answer that is ready and next in order.
type conn struct {
	broker *Broker
	seat   *seat
	from   *listener // nil for pipes
	front  *front    // of the time at which it began
	codec  wire.Codec
	loose  wire.Unordered // the codec, if answers may overtake each other
	in     io.Reader
	out    io.Writer
	net    net.Conn // nil for pipes
	since  time.Time

	// ring[n%len] is the n-th request, from its admission until its answer is encoded. Where
	// answers may overtake each other, a request takes any slot that is free.
	ring    []atomic.Pointer[Call]
	credits chan struct{}
	next    atomic.Uint64 // number of answers written: the request whose turn is next
	last    atomic.Uint64 // number of requests admitted
	eof     atomic.Bool   // no request follows
	lost    atomic.Bool   // the peer does not take answers any more
	hungUp  atomic.Bool   // the end of the connection was the answer to a request
	flushed chan struct{} // closed when every answer has left
	ended   bool          // actor only: flushed is closed
	hanging bool          // actor only: to be hung up

	encoded   uint64 // actor only: so many are encoded in pending, or written
	leaving   int64  // actor only: those of them that count as in flight
	pending   []byte // actor only: encoded, not yet written
	writeOver time.Time
}

// front is what the connections of a listener, or a pipe, have in common.
type front struct {
	name          string
	protocol      wire.Protocol
	options       wire.Options
	defaultDomain string
	deadline      time.Duration
	idleTimeout   time.Duration
	frameTimeout  time.Duration
	writeTimeout  time.Duration
	pipeline      int
	counters      *counters
}

// busy reports whether a request is under way. Safe for any goroutine.
func (c *conn) busy() bool { return c.next.Load() != c.last.Load() }

// ending reports whether the connection is to end after the requests in flight: the broker
// drains, or its listener was taken away.
func (c *conn) ending() bool {
	return c.broker.closing.Load() || c.from != nil && c.from.gone.Load()
}

// answered implements asker: it wakes the actor, once for any number of answers.
func (c *conn) answered(*Call) { c.seat.wake() }

// flush writes all answers that are ready and have their turn, one write per burst.
func (c *conn) flush() {
	c.write() // what a panic left behind
	if c.loose != nil {
		c.encodeReady()
	} else {
		c.encodeNext()
	}
	c.write()
	if c.hanging && !c.hungUp.Load() {
		c.hangUp()
	}
	if c.eof.Load() && c.next.Load() == c.last.Load() && !c.ended {
		c.ended = true
		close(c.flushed)
	}
}

// encodeNext encodes the answers that are next in order.
func (c *conn) encodeNext() {
	for {
		slot := &c.ring[c.encoded%uint64(len(c.ring))]
		call := slot.Load()
		if call == nil || !call.Done() || c.encoded == c.last.Load() {
			return
		}
		c.note(call)
		c.pending = c.codec.AppendAnswer(c.pending, &call.Req, call.answer)
		c.leave(slot, call)
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
		if call.Req.Op != auth.OpNone { // else it is the codec's own
			c.note(call)
		}
		if c.loose.ClosesAfterFlush(&call.Req, call.answer) {
			c.hanging = true
		} else {
			c.pending = c.codec.AppendAnswer(c.pending, &call.Req, call.answer)
		}
		c.leave(slot, call)
	}
}

// note counts and logs a decision.
func (c *conn) note(call *Call) {
	call.log(c.front.counters.note(call))
}

// leave frees the slot of a call whose answer has been encoded.
func (c *conn) leave(slot *atomic.Pointer[Call], call *Call) {
	slot.Store(nil)
	c.encoded++
	if call.counted {
		c.leaving++
	}
	if len(c.pending) >= burst {
		c.write()
	}
}

// hangUp ends the connection from this side; what is still under way is answered by that. The
// reader drops what the peer may still send, so that the answers before arrive.
func (c *conn) hangUp() {
	c.lost.Store(true)
	c.hungUp.Store(true)
	if half, ok := c.net.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	if c.net != nil {
		_ = c.net.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	}
}

// write sends what is encoded and gives back the credits of its requests.
func (c *conn) write() {
	if c.next.Load() == c.encoded {
		return
	}
	if len(c.pending) > 0 && !c.lost.Load() {
		c.armWrite()
		if _, err := c.out.Write(c.pending); err != nil {
			// The peer is gone, or does not read. Its further answers go nowhere.
			c.lost.Store(true)
			c.broker.log.Debug("answers could not be delivered", "front", c.front.name, "err", err)
			if c.net != nil {
				_ = c.net.Close() // wakes the reader
			}
		}
	}
	if cap(c.pending) > 4*burst {
		c.pending = nil
	}
	c.pending = c.pending[:0]
	n := c.encoded - c.next.Load()
	c.next.Store(c.encoded)
	c.broker.inFlight.Add(-c.leaving)
	c.leaving = 0
	for range n {
		<-c.credits
	}
}

// armWrite sets the write deadline, but not for each write: it is renewed when half of it
// has passed.
func (c *conn) armWrite() {
	if c.net == nil || c.front.writeTimeout == 0 {
		return
	}
	now := time.Now()
	if c.writeOver.Sub(now) < c.front.writeTimeout/2 {
		c.writeOver = now.Add(c.front.writeTimeout)
		_ = c.net.SetWriteDeadline(c.writeOver)
	}
}

// admit takes a decoded request into the ring and sends it on its way, or answers it there
// and then if it was refused, or answered, by the codec. It blocks while the connection is out of
// credits, so that the peer is slowed down by its own unread answers.
func (c *conn) admit(call *Call, event wire.Event) {
	select {
	case c.credits <- struct{}{}:
	default:
		c.credits <- struct{}{}
	}
	b := c.broker
	call.Received = time.Now()
	patience := c.front.deadline
	if call.Req.Patience > 0 {
		patience = min(patience, call.Req.Patience)
	}
	call.Deadline = call.Received.Add(patience)
	call.asker, call.broker, call.front = c, b, c.front.name
	call.counted = b.enter()
	// In the ring it may be answered, and then logged, at any time.
	ready := event == wire.Ask && b.prepare(call, c.front.defaultDomain)
	n := c.last.Load()
	c.slot(n).Store(call)
	c.last.Store(n + 1)
	if c.codec.OneShot() {
		c.eof.Store(true) // the answer's wake-up is the last one needed
	}
	if call.Done() { // before flush could see it
		c.seat.wake()
	}
	switch {
	case ready && call.Req.Base != "":
		b.routeBoth(call, c.front.defaultDomain)
	case ready:
		b.route(call)
	case event == wire.Ask: // answered
	case event == wire.Reply:
		call.Answer(auth.Answer{Body: c.loose.Reply()})
	default:
		call.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed})
	}
}

// slot is where the n-th request belongs. The reader, which alone fills slots, has a credit for
// it: so one is free.
func (c *conn) slot(n uint64) *atomic.Pointer[Call] {
	slot := &c.ring[n%uint64(len(c.ring))]
	for c.loose != nil && slot.Load() != nil {
		n++
		slot = &c.ring[n%uint64(len(c.ring))]
	}
	return slot
}
