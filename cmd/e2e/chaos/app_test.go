package chaos

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// chaosApp is a web application that speaks HTTP by hand, so that it can speak it badly. It has a
// loopback address of its own, on which no other program takes the port while it is down.
type chaosApp struct {
	t           *testing.T
	credentials *credentials
	address     string
	certs       atomic.Pointer[tls.Certificate] // nil: no TLS
	mode        atomic.Pointer[appMode]
	asked       atomic.Int64
	ended       chan struct{}
	ending      sync.Once

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
}

// appMode answers one request, which is written on the connection; false closes it.
type appMode func(c net.Conn, body string) bool

func newChaosApp(t *testing.T, users *credentials, host string, cert *tls.Certificate) *chaosApp {
	t.Helper()
	a := &chaosApp{t: t, credentials: users, address: host + ":0", conns: make(map[net.Conn]struct{}), ended: make(chan struct{})}
	a.certs.Store(cert)
	a.becomes(httpReply(200))
	a.up()
	t.Cleanup(func() {
		a.ending.Do(func() { close(a.ended) })
		a.down()
		a.wg.Wait()
	})
	return a
}

// becomes changes how requests are answered from now on.
func (a *chaosApp) becomes(m appMode) { a.mode.Store(&m) }

// up listens; down ends that, and all connections.
func (a *chaosApp) up() {
	a.t.Helper()
	l, err := net.Listen("tcp", a.address)
	if err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.address, a.listener = l.Addr().String(), l
	a.wg.Add(1)
	go a.accept(l)
}

func (a *chaosApp) down() {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.listener.Close()
	a.cut()
}

// hangUp ends all connections.
func (a *chaosApp) hangUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cut()
}

func (a *chaosApp) cut() {
	for c := range a.conns {
		_ = c.Close()
	}
}

func (a *chaosApp) accept(l net.Listener) {
	defer a.wg.Done()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		a.mu.Lock()
		a.conns[c] = struct{}{}
		a.wg.Add(1)
		a.mu.Unlock()
		go func() {
			defer a.wg.Done()
			a.serve(c)
			_ = c.Close()
			a.mu.Lock()
			delete(a.conns, c)
			a.mu.Unlock()
		}()
	}
}

func (a *chaosApp) serve(raw net.Conn) {
	c := raw
	if cert := a.certs.Load(); cert != nil {
		c = tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{*cert}})
	}
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		a.asked.Add(1)
		if !(*a.mode.Load())(c, a.answer(r.URL.Path, body)) {
			return
		}
	}
}

// answer is the right body.
func (a *chaosApp) answer(path string, body []byte) string {
	var q struct{ Username, Password string }
	if err := json.Unmarshal(body, &q); err != nil {
		a.t.Errorf("the application was asked %q: %v", path, err)
	}
	yes := !strings.HasPrefix(q.Username, "nobody@")
	if strings.HasSuffix(path, "/login") {
		yes = a.credentials.login(q.Username, q.Password)
	}
	return map[bool]string{true: harness.JSONYes, false: harness.JSONNo}[yes]
}

// pause waits, unless the application ends meanwhile.
func (a *chaosApp) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-a.ended:
		return false
	}
}

// httpReply answers as HTTP has it, with a status.
func httpReply(status int) appMode {
	return func(c net.Conn, body string) bool { return writeReply(c, status, len(body), body) }
}

func writeReply(c net.Conn, status, length int, body string) bool {
	_, err := fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), length, body)
	return err == nil
}

// delayed answers rightly after a time.
func (a *chaosApp) delayed(d time.Duration) appMode {
	right := httpReply(200)
	return func(c net.Conn, body string) bool { return a.pause(d) && right(c, body) }
}

// lastReply answers, and ends the connection with the peer's consent.
func lastReply(c net.Conn, body string) bool {
	_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	return false
}

// modes are the faults of an application that is there.
func (a *chaosApp) modes() map[string]appMode {
	return map[string]appMode{
		"reset": func(c net.Conn, _ string) bool {
			if t, ok := c.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
			}
			return false
		},
		"hang": func(net.Conn, string) bool { return a.pause(time.Minute) },
		"after the deadline": func(c net.Conn, body string) bool {
			return a.pause(chaosDeadline+chaosDeadline/4) && writeReply(c, 200, len(body), body)
		},
		"a second answer unasked": func(c net.Conn, body string) bool {
			var b strings.Builder
			for _, text := range []string{body, harness.JSONYes} {
				fmt.Fprintf(&b, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
			}
			_, err := io.WriteString(c, b.String())
			return err == nil
		},
		"a byte per second": func(c net.Conn, body string) bool {
			for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + body) {
				if _, err := c.Write([]byte{b}); err != nil || !a.pause(time.Second) {
					return false
				}
			}
			return true
		},
		"500": httpReply(500), "502": httpReply(502), "429": httpReply(429),
		"garbage": func(c net.Conn, _ string) bool {
			_, _ = io.WriteString(c, "\x00\xff\x16\x03{\"success\": true}\r\n\r\n")
			return false
		},
		"other JSON": func(c net.Conn, _ string) bool { return writeReply(c, 200, 9, `{"ok":[]}`) },
		"too long a Content-Length": func(c net.Conn, body string) bool {
			writeReply(c, 200, len(body)+10, body)
			return false
		},
		"too short a Content-Length": func(c net.Conn, body string) bool { return writeReply(c, 200, len(body)-5, body) },
	}
}
