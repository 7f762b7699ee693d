package backend

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// lineServer answers with bytes of the test's choice, plain or over TLS.
type lineServer struct {
	url    string
	ca     string
	answer func(n int32, conn *corked) // the n-th request of all; it closes the connection if that shall end
	conns  atomic.Int32
	asked  atomic.Int32
	ended  sync.WaitGroup
}

// corked is a connection that can hold back what is written, to send it in one piece.
type corked struct {
	net.Conn // for the test to write to: TLS, if there is any
	raw      net.Conn
	hold     bool
	held     []byte
}

// heldConn is what is below TLS.
type heldConn struct {
	net.Conn
	c *corked
}

func (h heldConn) Write(b []byte) (int, error) {
	if h.c.hold {
		h.c.held = append(h.c.held, b...)
		return len(b), nil
	}
	return h.Conn.Write(b)
}

func newLineServer(t *testing.T, secure bool, answer func(n int32, conn *corked)) *lineServer {
	t.Helper()
	s := &lineServer{answer: answer}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + listener.Addr().String()
	var config *tls.Config
	if secure {
		s.url = strings.Replace(s.url, "http", "https", 1)
		lender := newKeptServer(t, "", true) // of its certificate
		s.ca, config = lender.ca, lender.TLS.Clone()
		config.NextProtos = nil
	}
	var mu sync.Mutex
	var open []net.Conn
	s.ended.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			s.ended.Go(func() { s.serve(conn, config) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		s.ended.Wait()
	})
	return s
}

func (s *lineServer) serve(raw net.Conn, config *tls.Config) {
	defer raw.Close()
	c := &corked{raw: raw}
	c.Conn = heldConn{raw, c}
	if config != nil {
		c.Conn = tls.Server(c.Conn, config)
	}
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		s.answer(s.asked.Add(1), c)
	}
}

func (s *lineServer) client(t *testing.T, o HTTPOptions) *httpClient {
	t.Helper()
	o.URL, o.CAFile = s.url, s.ca
	c, err := newHTTPClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// bothWays runs a test without and with TLS.
func bothWays(t *testing.T, f func(t *testing.T, secure bool)) {
	t.Run("plain", func(t *testing.T) { f(t, false) })
	t.Run("tls", func(t *testing.T) { f(t, true) })
}

func say(conn *corked, text string) { _, _ = io.WriteString(conn, text) }
