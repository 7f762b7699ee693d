package backend

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"postern/internal/auth"
)

// scriptedConn is a connection that a test can make fail in Write.
type scriptedConn struct {
	*net.TCPConn
	net    *scriptedNet
	broken atomic.Bool // every Write fails
}

func (c *scriptedConn) Write(b []byte) (int, error) {
	if c.broken.Load() {
		return 0, syscall.EPIPE
	}
	if script := c.net.script.Load(); script != nil {
		return (*script)(c, b)
	}
	return c.TCPConn.Write(b)
}

// scriptedNet dials and counts.
type scriptedNet struct {
	dials  atomic.Int32
	script atomic.Pointer[func(*scriptedConn, []byte) (int, error)]
}

func (n *scriptedNet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.dials.Add(1)
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &scriptedConn{TCPConn: conn.(*net.TCPConn), net: n}, nil
}

// play sets what the next Write does; later ones are as usual unless again is set.
func (n *scriptedNet) play(again bool, script func(*scriptedConn, []byte) (int, error)) {
	wrapped := func(c *scriptedConn, b []byte) (int, error) {
		if !again {
			n.script.Store(nil)
		}
		return script(c, b)
	}
	n.script.Store(&wrapped)
}

// client returns the HTTP client of a backend.
func client(b Backend) *httpClient {
	if j, ok := b.(*jsxc); ok {
		return j.client
	}
	if n, ok := b.(*nextcloud); ok {
		return n.client
	}
	return b.(*jsonAPI).client
}

// TestAskAgain loses the second question on its kept connection in several ways. It may
// be asked again only if the server cannot have seen any of it.
func TestAskAgain(t *testing.T) {
	reset := func(c *scriptedConn, _ []byte) (int, error) { c.broken.Store(true); return 0, syscall.ECONNRESET }
	cases := []struct {
		name   string
		again  bool
		script func(server *keptServer) func(*scriptedConn, []byte) (int, error)
		want   Class
		asked  int32 // requests that reached the handler, with the first
		dials  int32
	}{
		{"nothing was written", false,
			func(*keptServer) func(*scriptedConn, []byte) (int, error) { return reset }, Accepted, 2, 2},
		{"the server closed first", false,
			func(s *keptServer) func(*scriptedConn, []byte) (int, error) {
				return func(c *scriptedConn, b []byte) (int, error) {
					s.closeKept()
					c.broken.Store(true) // the client's system has seen it
					return 0, syscall.EPIPE
				}
			}, Accepted, 2, 2},
		{"a part was written", false,
			func(*keptServer) func(*scriptedConn, []byte) (int, error) {
				return func(c *scriptedConn, b []byte) (int, error) {
					n, _ := c.TCPConn.Write(b[:10])
					return n, syscall.ECONNRESET
				}
			}, Outage, 1, 1},
		{"all was written and the server closed", false,
			func(s *keptServer) func(*scriptedConn, []byte) (int, error) {
				return func(c *scriptedConn, b []byte) (int, error) {
					s.hangUp.Store(true)
					return c.TCPConn.Write(b)
				}
			}, Outage, 2, 1},
		{"the second attempt fails too", true,
			func(*keptServer) func(*scriptedConn, []byte) (int, error) { return reset }, Outage, 1, 2},
	}
	for _, c := range cases {
		for _, k := range everyHTTP() {
			for _, secure := range []bool{false, true} {
				t.Run(c.name+"/"+k.name, func(t *testing.T) {
					server := newKeptServer(t, k.yes, secure)
					b := k.connect(t, HTTPOptions{URL: server.URL, CAFile: server.ca})
					wire := &scriptedNet{}
					client(b).dial = wire.dial
					if r := ask(t, b, auth.OpAuth); r.Class != Accepted {
						t.Fatalf("first question: %s, %v", r.Class, r.Err)
					}
					wire.play(c.again, c.script(server))
					r := ask(t, b, auth.OpAuth)
					if r.Class != c.want || server.asked.Load() != c.asked || wire.dials.Load() != c.dials {
						t.Errorf("tls %v: %s (%v), asked %d times over %d connections; want %s, %d, %d", secure,
							r.Class, r.Err, server.asked.Load(), wire.dials.Load(), c.want, c.asked, c.dials)
					}
				})
			}
		}
	}
}

// TestNewConnectionIsNotRetried: what fails on a new connection fails again.
func TestNewConnectionIsNotRetried(t *testing.T) {
	for _, k := range everyHTTP() {
		server := newKeptServer(t, k.yes, false)
		b := k.connect(t, HTTPOptions{URL: server.URL})
		wire := &scriptedNet{}
		client(b).dial = wire.dial
		wire.play(false, func(*scriptedConn, []byte) (int, error) { return 0, syscall.ECONNRESET })
		if r := ask(t, b, auth.OpAuth); r.Class != Outage || wire.dials.Load() != 1 || server.asked.Load() != 0 {
			t.Errorf("%s: %s after %d connections", k.name, r.Class, wire.dials.Load())
		}
	}
}

// TestDialIsNotRetried: no connection is an outage at once.
func TestDialIsNotRetried(t *testing.T) {
	for _, k := range everyHTTP() {
		b := k.connect(t, HTTPOptions{URL: "http://127.0.0.1:1"})
		dials := 0
		client(b).dial = func(context.Context, string, string) (net.Conn, error) {
			dials++
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		if r := ask(t, b, auth.OpAuth); r.Class != Outage || dials != 1 || !errors.Is(r.Err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %s, %v after %d dials", k.name, r.Class, r.Err, dials)
		}
	}
}

// keptServer answers yes, keeps its connections, and can close them.
type keptServer struct {
	*httptest.Server
	ca     string
	asked  atomic.Int32
	hangUp atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
}

func newKeptServer(t *testing.T, yes string, secure bool) *keptServer {
	t.Helper()
	s := &keptServer{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.hangUp.Load() {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				conn.Close()
			}
			return
		}
		canned(200, yes)(w, r)
	}))
	s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conns = append(s.conns, conn)
		}
	}
	if !secure {
		s.Start()
		t.Cleanup(s.Close)
		return s
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the clients' broken connections
	s.StartTLS()
	t.Cleanup(s.Close)
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(s.ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *keptServer) closeKept() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		conn.Close()
	}
}
