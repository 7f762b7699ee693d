package backend

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// countingConn counts the bytes that were sent, below TLS if that is used.
type countingConn struct {
	net.Conn
	sent int64
}

func (w *countingConn) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.sent += int64(n)
	return n, err
}

// limitedReader reads at most left bytes and remembers its error.
type limitedReader struct {
	from io.Reader
	left int64
	err  error // other than io.EOF
}

var errHeaderTooLong = errors.New("the response's header is too long")

func (r *limitedReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errHeaderTooLong
	}
	n, err := r.from.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// httpConn is a connection to the server. Only interrupt may be called concurrently.
type httpConn struct {
	wire *countingConn
	conn net.Conn // wire, or TLS over it
	in   limitedReader
	br   *bufio.Reader   // reads in
	out  []byte          // buffer for requests
	raw  syscall.RawConn // the socket; nil if the connection does not expose it
	used time.Time       // when its last request began
	// answered: a response was received, so that surplus bytes may be a late one.
	answered bool

	// These are made once per connection, because every request needs them.
	interrupt func() // ends the exchange in progress
	peek      func(fd uintptr)
	silent    bool // result of peek: open, and nothing to read
	unread    bool // result of peek: there is something to read
}

// past is a deadline that has been missed.
var past = time.Unix(1, 0)

// newHTTPConn makes a connection; conn is w, or TLS over it.
func newHTTPConn(w *countingConn, conn net.Conn) *httpConn {
	h := &httpConn{wire: w, conn: conn, in: limitedReader{from: conn}}
	h.br = bufio.NewReader(&h.in)
	if socket, ok := w.Conn.(syscall.Conn); ok {
		h.raw, _ = socket.SyscallConn()
	}
	h.interrupt = func() { _ = conn.SetDeadline(past) }
	h.peek = func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		h.silent, h.unread = errors.Is(err, syscall.EAGAIN), err == nil && n > 0
	}
	return h
}

// idle reports whether the server keeps the connection open and has sent nothing unasked, which
// would be taken for the response to the next request. A connection that hides its socket is not
// idle.
func (h *httpConn) idle() bool {
	if h.raw == nil || h.br.Buffered() > 0 || h.raw.Control(h.peek) != nil || !h.silent {
		return false
	}
	if h.conn == net.Conn(h.wire) {
		return true
	}
	// TLS may have read ahead. With a missed deadline, Read returns only what it has buffered.
	var b [1]byte
	if h.conn.SetReadDeadline(past) != nil {
		return false
	}
	n, err := h.conn.Read(b[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// surplus reports whether a connection that is not idle has bytes of a response that was not asked
// for. Over TLS there may be something else to read: the server's close_notify.
func (h *httpConn) surplus() bool {
	if !h.unread || h.conn == net.Conn(h.wire) {
		return h.unread
	}
	var b [1]byte
	if h.conn.SetReadDeadline(time.Now().Add(surplusWait)) != nil {
		return false
	}
	n, _ := h.conn.Read(b[:])
	return n > 0
}

// surplusWait is how long the rest of a TLS record is waited for.
const surplusWait = 250 * time.Millisecond

// abort closes the connection after a failed exchange. No close_notify: the write could block.
func (h *httpConn) abort() { _ = h.wire.Close() }

// close closes an idle connection.
func (h *httpConn) close() { _ = h.conn.Close() }

// Bounds of what a connection reads and keeps, in bytes.
const (
	maxHeader  = 64 << 10 // of all headers of a response
	maxScratch = 16 << 10 // of the buffer for requests
)

// send writes a request in one piece, and clears the buffer, which held a password.
func (h *httpConn) send(q request, head []byte) error {
	b, err := q.append(h.out[:0], head)
	if err == nil {
		_, err = h.conn.Write(b)
	}
	clear(b)
	if h.out = b; cap(b) > maxScratch {
		h.out = nil
	}
	return err
}

// receive reads a response. With both a response and an error, the body is incomplete.
func (h *httpConn) receive(limit int64) (resp *http.Response, data []byte, err error) {
	if resp, data, err = h.read(limit); err != nil && h.in.err != nil {
		err = h.in.err // the parser may have reported it as a malformed line
	}
	return resp, data, err
}

// read skips informational responses. It does not close the body: that would read the rest of it.
func (h *httpConn) read(limit int64) (resp *http.Response, data []byte, err error) {
	for h.in.left = maxHeader; ; {
		if resp, err = http.ReadResponse(h.br, nil); err != nil {
			return nil, nil, err
		}
		if resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	h.in.left = math.MaxInt64
	room := min(max(resp.ContentLength, 0), limit, 64<<10) + bytes.MinRead
	body := bytes.NewBuffer(make([]byte, 0, room))
	_, err = body.ReadFrom(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(body.Len()) > limit {
		err = errTooLong
	}
	return resp, body.Bytes(), err
}
