package actors

import (
	"bytes"
	"io"
	"net"
	"time"

	"postern/wire"
)

// Sizes of a connection's input buffer. Idle connections keep the small one.
const (
	smallBuffer = 1 << 10
	growBuffer  = 4
)

// Bounds on what is read and dropped from a peer after its last answer, so that a close does
// not destroy the answer on its way (a close with unread input resets the connection).
const (
	lingerBytes = 64 << 10
	lingerTime  = 2 * time.Second
	lingerDrain = 250 * time.Millisecond // when the peer has nothing to say that counts
)

// reader decodes one connection's input, on the goroutine of its seat.
type reader struct {
	*conn
	buf        []byte
	start, end int
	begun      bool // bytes of the next request have come
	timed      bool // the read deadline is that of the request that has begun
	limited    bool // there is a read deadline
	spent      bool // the one request was all the input
	call       *Call
}

// greet sends the greeting of a protocol in which the server speaks first. It is false when the
// peer is gone already, and the connection then closed.
func (c *conn) greet() bool {
	g, ok := c.codec.(wire.Greeter)
	if !ok {
		return true
	}
	c.armWrite()
	if _, err := c.out.Write(g.Greeting()); err != nil {
		if c.net != nil {
			_ = c.net.Close()
		}
		return false
	}
	return true
}

// read serves the connection until its end; it returns when every answer has left.
func (c *conn) read() {
	r := &reader{conn: c, buf: c.seat.input}
	broken := r.loop()
	clear(c.seat.input) // it may wait for long, and held passwords
	if !c.eof.Swap(true) {
		c.seat.wake()
	}
	<-c.flushed
	if c.net != nil {
		r.close(broken)
	}
}

// loop reads and admits until the input ends. It reports whether input may be left over.
func (r *reader) loop() (leftover bool) {
	defer func() {
		if reason := recover(); reason != nil {
			r.broker.log.Error("reader panicked; closing its connection", "front", r.front.name, "panic", panicText(reason))
			leftover = true
		}
	}()
	for {
		more, end := r.decode()
		if end || r.hungUp.Load() {
			return !r.spent
		}
		if !more {
			continue
		}
		if err := r.fill(); err != nil {
			return false
		}
	}
}

// decode takes one frame from the buffer. more asks for input; end says that no request
// follows.
func (r *reader) decode() (more, end bool) {
	if r.call == nil {
		r.call = new(Call)
	}
	n, event := r.codec.Decode(r.buf[r.start:r.end], &r.call.Req)
	r.start += n
	call := r.call
	switch event {
	case wire.Ask, wire.Refuse, wire.RefuseBroken, wire.Reply:
		r.call, r.begun, r.timed = nil, false, false
		r.spent = r.codec.OneShot() && event != wire.RefuseBroken && r.drained()
		r.conn.admit(call, event)
		return false, event == wire.RefuseBroken || r.codec.OneShot()
	case wire.Note:
		r.begun, r.timed = false, false
		return false, false
	case wire.Quit, wire.Broken:
		return false, true
	}
	// What the codec dropped of an over-long request counts as well.
	r.begun = r.begun || n > 0 || r.end > r.start
	return n == 0 || r.start == r.end, false
}

// drained reports whether a close cannot destroy the answer on its way: the peer has sent nothing
// that was not read, and what it may send yet does no harm on a Unix socket, unlike TCP.
func (r *reader) drained() bool {
	_, local := r.net.(*net.UnixConn)
	return local && r.start == r.end && r.end < len(r.buf) // else the last read may have left something
}

// fill reads more input.
func (r *reader) fill() error {
	if r.start == r.end {
		r.start, r.end = 0, 0
		r.buf = r.seat.input
	} else if r.start > 0 && r.end == len(r.buf) {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	} else if r.end == len(r.buf) {
		r.buf = append(bytes.Clone(r.buf), make([]byte, (growBuffer-1)*len(r.buf))...)
	}
	r.arm()
	n, err := r.in.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// arm sets the read deadline: one for the rest of a request that has begun, counted from its
// beginning, and one between requests.
func (r *reader) arm() {
	if r.net == nil {
		return
	}
	timeout := r.front.idleTimeout
	switch {
	case r.begun && r.timed:
		return
	case r.begun:
		timeout = r.front.frameTimeout
	case timeout == 0 && !r.limited:
		return
	}
	r.timed, r.limited = r.begun, timeout > 0
	r.setReadDeadline(timeout)
}

// setReadDeadline sets the deadline, but never takes back the one by which a draining broker
// ends all reading, or the connection that of its peer.
func (r *reader) setReadDeadline(timeout time.Duration) {
	at := time.Time{}
	if timeout > 0 {
		at = time.Now().Add(timeout)
	}
	_ = r.net.SetReadDeadline(at)
	if r.ending() || r.hungUp.Load() {
		_ = r.net.SetReadDeadline(time.Unix(1, 0))
	}
}

// close ends the connection so that the last answers arrive: it shuts down writing, drops
// what the peer still sends, and closes.
func (r *reader) close(leftover bool) {
	defer r.net.Close()
	half, ok := r.net.(interface{ CloseWrite() error })
	switch {
	case !ok:
		return
	case r.hungUp.Load(): // writing is shut down
	case r.lost.Load() || !leftover && !r.ending() || half.CloseWrite() != nil:
		return
	}
	limit := lingerTime
	if r.ending() {
		limit = lingerDrain
	}
	_ = r.net.SetReadDeadline(time.Now().Add(limit))
	_, _ = io.CopyN(io.Discard, r.net, lingerBytes)
}
