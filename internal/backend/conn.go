package backend

import (
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync"
)

// meteredConn counts the bytes that left through a connection.
type meteredConn struct {
	net.Conn
	mu     sync.Mutex // held while a Write is under way
	sent   int64
	sealed bool
}

// Write sends unless the connection is sealed.
func (c *meteredConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealed {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Write(b)
	c.sent += int64(n)
	return n, err
}

// mark returns how many bytes have left so far.
func (c *meteredConn) mark() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// seal reports whether nothing has left since mark, and if so makes sure that nothing
// will. A Write that is under way counts as sent.
func (c *meteredConn) seal(mark int64) bool {
	if !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	if c.sent != mark {
		return false
	}
	c.sealed = true
	return true
}

// sentMark remembers the connection that a request was given. The trace's callback and
// nothingSent run on the goroutine of the request.
type sentMark struct {
	conn *meteredConn
	at   int64
}

// got is the GotConn callback of httptrace. Only a kept connection is of interest: if a
// new one fails, so will the next.
func (m *sentMark) got(info httptrace.GotConnInfo) {
	m.conn = nil
	if !info.Reused {
		return
	}
	conn := info.Conn
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	if metered, ok := conn.(*meteredConn); ok {
		m.conn, m.at = metered, metered.mark()
	}
}

// nothingSent reports whether no byte of the request left, and never will.
func (m *sentMark) nothingSent() bool { return m.conn != nil && m.conn.seal(m.at) }
