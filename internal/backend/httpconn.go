package backend

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// wire counts the bytes that left, below TLS if there is any.
type wire struct {
	net.Conn
	sent int64
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.sent += int64(n)
	return n, err
}

// bounded reads no more than left bytes, and remembers why it could not.
type bounded struct {
	from io.Reader
	left int64
	err  error // but io.EOF
}

var errHeaderTooLong = errors.New("the answer's header is too long")

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errHeaderTooLong
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// httpConn is a connection to the server. It is for one goroutine at a time, but for interrupt.
type httpConn struct {
	wire  *wire
	conn  net.Conn // the wire, or TLS over it
	in    bounded  // from conn
	br    *bufio.Reader
	out   []byte          // holds a request while it is written
	raw   syscall.RawConn // the socket; nil: there is none to look into
	asked time.Time       // when its last exchange began

	// Bound to the link once, for every exchange needs them.
	interrupt func() // ends the exchange under way; for any goroutine
	look      func(fd uintptr)
	silent    bool // what look saw
}

// past is a deadline that has been missed.
var past = time.Unix(1, 0)

// newHTTPConn makes a link; conn is w, or TLS over it.
func newHTTPConn(w *wire, conn net.Conn) *httpConn {
	l := &httpConn{wire: w, conn: conn, in: bounded{from: conn}}
	l.br = bufio.NewReader(&l.in)
	if socket, ok := w.Conn.(syscall.Conn); ok {
		l.raw, _ = socket.SyscallConn()
	}
	l.interrupt = func() { _ = conn.SetDeadline(past) }
	l.look = func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		l.silent = errors.Is(err, syscall.EAGAIN)
	}
	return l
}

// idle reports whether the server keeps the connection open and has sent nothing unasked,
// which would be taken for the answer to the next question. A connection that cannot be
// looked into is not idle.
func (l *httpConn) idle() bool {
	if l.raw == nil || l.br.Buffered() > 0 || l.raw.Control(l.look) != nil || !l.silent {
		return false
	}
	if l.conn == net.Conn(l.wire) {
		return true
	}
	return l.readsNothing()
}

// readsNothing reports whether TLS holds nothing that it has read ahead: at a deadline that has
// been missed, Read looks at nothing else.
func (l *httpConn) readsNothing() bool {
	var b [1]byte
	if l.conn.SetReadDeadline(past) != nil {
		return false
	}
	n, err := l.conn.Read(b[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// drop ends the connection after an exchange that failed. TLS takes no leave, for that might wait.
func (l *httpConn) drop() { _ = l.wire.Close() }

// close ends the connection between exchanges.
func (l *httpConn) close() { _ = l.conn.Close() }
