package front

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/proxies"
	"postern/wire"
)

// proxyTimeout is how long a proxy may take to send its header.
const proxyTimeout = 5 * time.Second

// proxied is a connection that a proxy has taken and passed on: its first bytes are a header that says where it
// came from. The header is read before the first Read returns, so that accepting waits for none.
type proxied struct {
	net.Conn
	failed func(error) // called once, if the header is none
	limit  time.Time   // when the header must have come
	source atomic.Pointer[net.TCPAddr]

	mu       sync.Mutex // of what follows
	known    bool       // the header has been read
	deadline time.Time  // for reading, as it was set last

	// For Read, of which there is one at a time.
	rest []byte // behind the header
	err  error
}

func newProxied(socket net.Conn, failed func(error)) *proxied {
	p := &proxied{Conn: socket, failed: failed, limit: time.Now().Add(proxyTimeout)}
	_ = socket.SetReadDeadline(p.limit)
	return p
}

// Read implements net.Conn.
func (p *proxied) Read(b []byte) (int, error) {
	if p.err == nil && !p.isKnown() {
		p.err = p.readHeader()
	}
	if p.err != nil {
		return 0, p.err
	}
	if len(p.rest) > 0 {
		n := copy(b, p.rest)
		if p.rest = p.rest[n:]; len(p.rest) == 0 {
			p.rest = nil
		}
		return n, nil
	}
	return p.Conn.Read(b)
}

func (p *proxied) isKnown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known
}

// readHeader reads the header, and what came with it.
func (p *proxied) readHeader() error {
	var buf []byte
	chunk := make([]byte, 512)
	for {
		n, err := p.Conn.Read(chunk)
		buf = append(buf, chunk[:n]...)
		from, size, bad := wire.ProxyHeader(buf)
		switch {
		case bad == nil:
			if from.IsValid() {
				p.source.Store(net.TCPAddrFromAddrPort(from))
			}
			p.rest = buf[size:]
			p.mu.Lock()
			defer p.mu.Unlock()
			p.known = true
			return p.Conn.SetReadDeadline(p.deadline)
		case errors.Is(bad, wire.ErrNoProxy), err != nil && len(buf) > 0:
			p.failed(bad)
			return bad
		case err != nil: // a health check that says nothing, or the end of the process
			return err
		}
	}
}

// SetReadDeadline implements net.Conn. Until the header has come, its own is not exceeded.
func (p *proxied) SetReadDeadline(at time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = at
	if !p.known && (at.IsZero() || at.After(p.limit)) {
		at = p.limit
	}
	return p.Conn.SetReadDeadline(at)
}

// SetDeadline implements net.Conn.
func (p *proxied) SetDeadline(at time.Time) error {
	return errors.Join(p.Conn.SetWriteDeadline(at), p.SetReadDeadline(at))
}

// RemoteAddr implements net.Conn: it is where the connection came from, once that is known.
func (p *proxied) RemoteAddr() net.Addr {
	if from := p.source.Load(); from != nil {
		return from
	}
	return p.Conn.RemoteAddr()
}

// CloseWrite ends writing, as TCP connections do.
func (p *proxied) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// client is the address that counts for the limits of a request that names none: where the connection came from, as
// its proxy says. "" if it does not say, or that is a proxy as well.
func (p *proxied) client(of *params) string {
	from := p.source.Load()
	if from == nil || proxies.Trusted(of.TrustedProxies).Trusts(from.AddrPort().Addr()) {
		return ""
	}
	return from.AddrPort().Addr().String()
}

// unwrap prepares a connection on which a proxy speaks first. It is false if the peer is not a trusted one.
func (l *listener) unwrap(a *arrival) bool {
	p := l.params.Load()
	if !p.ProxyProtocol || a.socket.LocalAddr().Network() == "unix" {
		return true
	}
	peer := a.socket.RemoteAddr().String()
	at, err := netip.ParseAddrPort(peer)
	if err != nil || !proxies.Trusted(p.TrustedProxies).Trusts(at.Addr()) {
		if held, ok := l.strangers.Due(time.Now()); ok {
			l.server.env.Log.Warn("a connection that is not from a trusted proxy, and the listen block has proxy_protocol; it is closed",
				"listener", p.Name, "peer", peer, "trusted_proxies", p.TrustedProxies, "alike", held)
		}
		return false
	}
	a.proxied = newProxied(a.socket, func(error) {
		if held, ok := l.strangers.Due(time.Now()); ok {
			l.server.env.Log.Warn("a connection without the header of the PROXY protocol, and the listen block has proxy_protocol; it is closed",
				"listener", p.Name, "peer", peer, "alike", held)
		}
	})
	a.socket = a.proxied
	return true
}
