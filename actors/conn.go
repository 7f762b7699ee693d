package actors

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
	"postern/wire"
)

// burst is how many bytes of answers are gathered into one write.
const burst = 4096

// conn is one connection: a reader goroutine that decodes and admits, and an actor that
// writes the answers in the order of the requests. What they share is the ring of requests
// in flight, which also outlives a restart of the actor: any wake-up, even the first after a
// restart, writes every answer that is ready and next in order.
type conn struct {
	broker *Broker
	front  *front
	codec  wire.Codec
	in     io.Reader
	out    io.Writer
	net    net.Conn // nil for pipes
	since  time.Time
	pid    *actor.PID

	// ring[n%len] is the n-th request, from its admission until its answer is encoded.
	ring    []atomic.Pointer[Call]
	credits chan struct{}
	next    atomic.Uint64 // the request whose answer is to be written next
	last    atomic.Uint64 // number of requests admitted
	eof     atomic.Bool   // no request follows
	waking  atomic.Bool
	lost    atomic.Bool   // the peer does not take answers any more
	flushed chan struct{} // closed when every answer has left
	ended   bool          // actor only: flushed is closed

	encoded   uint64 // actor only: requests up to here are encoded in pending
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
}

// busy reports whether a request is under way. Safe for any goroutine.
func (c *conn) busy() bool { return c.next.Load() != c.last.Load() }

// answered implements asker: it wakes the actor, once for any number of answers.
func (c *conn) answered(*Call) { c.wake() }

func (c *conn) wake() {
	if c.waking.CompareAndSwap(false, true) {
		c.broker.sys.Root.Send(c.pid, wakeMessage)
	}
}

// connActor writes a connection's answers.
type connActor struct{ *conn }

// Receive implements actor.Actor.
func (a connActor) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started, *wake:
		a.waking.Store(false)
		a.flush()
	}
}

// flush writes all answers that are ready, in order, one write per burst.
func (c *conn) flush() {
	c.write() // what a panic left behind
	for {
		call := c.ring[c.encoded%uint64(len(c.ring))].Load()
		if call == nil || !call.Done() || c.encoded == c.last.Load() {
			break
		}
		call.log(c.broker.log)
		c.pending = c.codec.AppendAnswer(c.pending, call.Req.Op, call.answer)
		c.ring[c.encoded%uint64(len(c.ring))].Store(nil)
		c.encoded++
		if call.counted {
			c.leaving++
		}
		if len(c.pending) >= burst {
			c.write()
		}
	}
	c.write()
	if c.eof.Load() && c.next.Load() == c.last.Load() && !c.ended {
		c.ended = true
		close(c.flushed)
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
// and then if it was refused by the codec. It blocks while the connection is out of
// credits, so that the peer is slowed down by its own unread answers.
func (c *conn) admit(call *Call, refused bool) {
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
	n := c.last.Load()
	c.ring[n%uint64(len(c.ring))].Store(call)
	c.last.Store(n + 1)
	if call.Done() { // by the sweeper or Stop, before flush could see it
		c.wake()
	}
	if refused {
		call.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed})
		return
	}
	b.admit(call, c.front.defaultDomain)
}
