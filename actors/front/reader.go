package front

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postern/actors/call"
	"postern/actors/supervise"
	"postern/internal/auth"
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
	lingerDrain = 250 * time.Millisecond // when the connection ends from this side
)

// reader decodes one connection's input, on the goroutine of its worker.
type reader struct {
	*conn
	buf        []byte
	start, end int
	begun      bool // bytes of the next request have come
	timed      bool // the read deadline is that of the request that has begun
	limited    bool // there is a read deadline
	spent      bool // the one request was all the input
	lost       bool // the framing is lost
	known      bool // a frame has come: the peer speaks the listener's protocol
	suspect    bool // what has come of the first frame looks like another protocol
	garbled    int  // lines in a row that make no sense
	late       int  // bytes read after the end of reading
	call       *call.Call
}

// oneMore is how long the connection of a protocol with one request per connection waits for another
// one. saslauthd closes at once, and libsasl2 does as soon as it has its answer; other clients, such
// as those of xcauth, ask on.
const oneMore = time.Second

// newReader returns the reader of a connection of which the first bytes are in the worker's buffer.
func newReader(c *conn, came int) *reader { return &reader{conn: c, buf: c.worker.input, end: came} }

// read serves the connection until its end; it returns when every answer has left. next is how many
// bytes of another request came after the one answer that the protocol has: the connection is then
// still open.
func (r *reader) read() (next int) {
	r.worker.runner.Attend()
	leftover := r.loop()
	clear(r.worker.input) // it may wait for long, and held passwords
	r.worker.settle(!r.readClosed.Swap(true))
	<-r.flushed
	if next = r.another(leftover); next == 0 {
		r.close(leftover)
	}
	return next
}

// another waits for the next request. What came before the answer is none: it may be a field that
// the protocol does not have.
func (r *reader) another(leftover bool) (came int) {
	if !r.codec.OneShot() || r.lost || r.admitted.Load() == 0 || r.peerGone.Load() || r.hungUp.Load() {
		return 0
	}
	wait := oneMore
	if r.params.IdleTimeout > 0 {
		wait = min(wait, r.params.IdleTimeout)
	}
	_ = r.socket.SetReadDeadline(time.Now().Add(wait))
	if r.ending() { // its deadline must not be taken back
		return 0
	}
	came, _ = r.socket.Read(r.worker.input)
	return came
}

// loop reads and admits until the input ends. It reports whether input may be left over.
func (r *reader) loop() (leftover bool) {
	defer func() {
		if reason := recover(); reason != nil {
			r.server.env.Log.Error("reader panicked; closing its connection", "front", r.params.Name, "panic", supervise.PanicText(reason))
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
			r.giveUp()
			return false
		}
	}
}

// decode takes one frame from the buffer. more asks for input; end says that no request
// follows.
func (r *reader) decode() (more, end bool) {
	if r.start == r.end {
		return true, false // an idle connection has no call
	}
	if r.call == nil {
		r.call = new(call.Call)
	}
	if !r.known && r.foreign() {
		return false, true
	}
	n, event := r.codec.Decode(r.buf[r.start:r.end], &r.call.Req)
	r.start += n
	call := r.call
	r.known = r.known || event != wire.More && event != wire.Note // several protocols begin with a note
	switch event {
	case wire.Ask, wire.Refuse, wire.RefuseBroken, wire.Reply:
		r.call, r.begun, r.timed, r.lost = nil, false, false, event == wire.RefuseBroken
		r.spent = r.codec.OneShot() && event != wire.RefuseBroken && r.drained()
		nonsense := r.nonsense(call, event) // admit gives the call away
		r.admit(call, event)
		return false, event == wire.RefuseBroken || r.codec.OneShot() || nonsense
	case wire.Note:
		r.begun, r.timed = false, false
		return false, false
	case wire.Quit, wire.Broken:
		r.lost = true
		return false, true
	}
	// What the codec dropped of an over-long request counts as well.
	r.begun = r.begun || n > 0 || r.end > r.start
	return n == 0 || r.start == r.end, false
}

// drained reports whether a close cannot destroy the answer on its way: the peer has sent nothing
// that was not read, and what it may send yet does no harm on a Unix socket, unlike TCP.
func (r *reader) drained() bool {
	_, local := r.socket.(*net.UnixConn)
	return local && r.start == r.end && r.end < len(r.buf) // else the last read may have left something
}

// admit takes a decoded request into the ring and sends it on its way, or answers it there and then
// if it was refused, or answered, by the codec. It waits while the ring is full, so that the peer is
// slowed down by its own unread answers.
func (r *reader) admit(c *call.Call, event wire.Event) {
	r.awaitRoom()
	ready := r.prepare(c, r.conn, event)
	n := r.admitted.Load()
	r.slot(n).Store(c)
	r.admitted.Store(n + 1)
	if r.codec.OneShot() {
		r.readClosed.Store(true) // the answer's wake-up is the last one needed
	}
	if event == wire.Reply {
		c.Answer(auth.Answer{Body: r.unordered.Reply()})
		return
	}
	r.send(&r.worker.runner, c, ready, event)
}

// prepare fills in the call of a decoded request, and counts it as in flight. From then on it is
// answered, whatever panics. ready: it is to be routed.
func (c *conn) prepare(call *call.Call, asker call.Asker, event wire.Event) (ready bool) {
	call.Received = time.Now()
	c.active.Store(call.Received.UnixNano())
	timeout := c.params.Deadline
	if call.Req.Patience > 0 {
		timeout = min(timeout, call.Req.Patience)
	}
	call.Deadline = call.Received.Add(timeout)
	call.Asker, call.Front, call.Returns = asker, c.params.Name, c.params.returnsAccount(&call.Req)
	call.Service = c.params.service(call.Req.Service)
	if call.Req.Client == "" && c.proxied != nil {
		call.Req.Client = c.proxied.client(c.params)
	}
	// In the ring it may be answered, and then logged, at any time.
	ready = event == wire.Ask && c.server.router.Prepare(call, c.params.DefaultDomain)
	call.Counted = c.server.gate.Enter()
	return ready
}

// send sends a prepared call on its way, or answers it there and then if it was refused by the codec.
// run is that of the calling goroutine.
func (c *conn) send(run *supervise.Runner, call *call.Call, ready bool, event wire.Event) {
	switch {
	case ready && call.Req.Op.Changes() && !c.listener.params.Load().admission.changes(c.from.uid, call.Received):
		call.Answer(c.listener.params.Load().closed)
	case ready && call.Req.Base != "":
		c.routeSubaddress(run, call)
	case ready:
		c.server.router.Route(run, call)
	case event == wire.Ask: // answered
	default:
		call.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed, Reason: call.Req.Fault})
	}
}

// awaitRoom waits until a slot of the ring is free.
func (r *reader) awaitRoom() {
	full := func() bool { return r.admitted.Load()-r.written.Load() == uint64(len(r.ring)) }
	if !full() {
		return
	}
	r.worker.settle(false)
	for full() {
		<-r.room
	}
	r.worker.runner.Attend()
}

// slot is where the n-th request belongs. Only the reader fills slots, and it has waited for room:
// so one is free.
func (r *reader) slot(n uint64) *atomic.Pointer[call.Call] {
	slot := &r.ring[n%uint64(len(r.ring))]
	for r.anySlot && slot.Load() != nil {
		n++
		slot = &r.ring[n%uint64(len(r.ring))]
	}
	return slot
}

// fill reads more input.
func (r *reader) fill() error {
	if r.start == r.end {
		r.start, r.end = 0, 0
		r.buf = r.worker.input
	} else if r.start > 0 && r.end == len(r.buf) {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	} else if r.end == len(r.buf) {
		r.buf = append(bytes.Clone(r.buf), make([]byte, (growBuffer-1)*len(r.buf))...)
	}
	r.worker.settle(false)
	r.arm()
	n, err := r.socket.Read(r.buf[r.end:])
	if n == 0 && r.ending() && !r.server.closing.Load() && !r.expelled.Load() {
		n = r.arrived(r.buf[r.end:])
	}
	r.worker.runner.Attend()
	r.end += n
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// arrived reads what the peer has sent before the end of reading: it is answered, too. What comes later is not,
// so that it ends with the first look that finds nothing.
func (r *reader) arrived(buf []byte) (n int) {
	socket, ok := r.socket.(syscall.Conn)
	if !ok || r.late > lingerBytes {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) }) // does not wait, nor look at the deadline
	if err != nil || n <= 0 {
		return 0
	}
	r.late += n
	return n
}

// arm sets the read deadline: one for the rest of a request that has begun, counted from its
// beginning, and one between requests.
func (r *reader) arm() {
	timeout := r.params.IdleTimeout
	switch {
	case r.begun && r.timed:
		return
	case r.begun:
		timeout = r.params.FrameTimeout
		if r.suspect && (timeout == 0 || timeout > suspectTime) {
			timeout = suspectTime
		}
	case timeout == 0 && !r.limited:
		return
	}
	r.timed, r.limited = r.begun, timeout > 0
	at := time.Time{}
	if timeout > 0 {
		at = time.Now().Add(timeout)
	}
	_ = r.socket.SetReadDeadline(at)
	if r.ending() || r.hungUp.Load() { // their deadline must not be taken back
		r.endReading()
	}
}

// close ends the connection so that the last answers arrive: it shuts down writing, drops
// what the peer still sends, and closes.
func (r *reader) close(leftover bool) {
	defer r.socket.Close()
	half, ok := r.socket.(interface{ CloseWrite() error })
	switch {
	case !ok:
		return
	case r.hungUp.Load(): // writing is shut down
	case r.peerGone.Load() || !leftover && !r.ending() || half.CloseWrite() != nil:
		return
	}
	limit := lingerTime
	if r.ending() {
		limit = lingerDrain
	}
	_ = r.socket.SetReadDeadline(time.Now().Add(limit))
	_, _ = io.CopyN(io.Discard, r.socket, lingerBytes)
}
