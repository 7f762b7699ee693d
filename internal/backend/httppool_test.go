package backend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// pooledConns makes n connections to a server that sends nothing, each used 20 s after the one
// before.
func pooledConns(t *testing.T, n int, begun time.Time) []*httpConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	made := make([]*httpConn, n)
	for i := range made {
		near, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { near.Close(); far.Close() })
		w := &countingConn{Conn: near}
		made[i] = newHTTPConn(w, w)
		made[i].used = begun.Add(time.Duration(i) * 20 * time.Second)
	}
	return made
}

// isClosed reports whether our end of a connection was closed.
func isClosed(l *httpConn) bool { return errors.Is(l.conn.SetDeadline(time.Time{}), net.ErrClosed) }

// TestHTTPPool checks limit, order, expiry and closing, with a clock of its own.
func TestHTTPPool(t *testing.T) {
	begun := time.Now() // the timer sleeps for the length of the test
	p := &httpPool{limit: 3}
	made := pooledConns(t, 5, begun)
	for i, l := range made[:4] {
		if p.put(l); isClosed(l) != (i == 3) {
			t.Errorf("connection %d of 3 that may be kept: closed %v", i, isClosed(l))
		}
	}
	if l := p.get(begun, false); l != made[2] {
		t.Error("the latest is not taken first")
	}
	p.put(made[2])
	p.expire(begun.Add(idleTimeout - 20*time.Second))
	if len(p.idle) != 3 || p.timer == nil {
		t.Fatalf("a sweep too early leaves %d", len(p.idle))
	}
	p.expire(begun.Add(idleTimeout))
	if len(p.idle) != 2 || !isClosed(made[0]) || isClosed(made[1]) || p.timer == nil {
		t.Fatalf("a sweep leaves %d, timer %v", len(p.idle), p.timer != nil)
	}
	if l := p.get(begun.Add(40*time.Second+idleTimeout), false); l != nil || !isClosed(made[1]) || !isClosed(made[2]) || len(p.idle) != 0 {
		t.Error("what expired is taken, or not closed")
	}
	if p.expire(begun); p.timer != nil {
		t.Error("a timer runs with nothing to sweep")
	}

	p.put(made[4])
	used := p.get(begun, false)
	if used != made[4] {
		t.Fatal("nothing is taken")
	}
	p.close()
	if p.put(used); !isClosed(used) || p.get(begun, false) != nil {
		t.Error("a connection in use at the end was kept")
	}
}

// TestUnseenIsNotKept: a connection that does not expose its socket is used once.
func TestUnseenIsNotKept(t *testing.T) {
	server := newKeptServer(t, "{}", false)
	dials := 0
	c, err := newHTTPClient(HTTPOptions{URL: server.URL, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		dials++
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return struct{ net.Conn }{conn}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for range 3 {
		if _, err := c.post(t.Context(), "/", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if dials != 3 {
		t.Errorf("3 questions took %d connections", dials)
	}
}

// TestNeverTwice sends requests concurrently while the server closes connections at random and some
// requests are cancelled. No request arrives twice, and every response belongs to its request.
func TestNeverTwice(t *testing.T) {
	const sides, each = 16, 50
	var mu sync.Mutex
	arrived := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		arrived[r.URL.Path]++
		mu.Unlock()
		switch rand.N(10) {
		case 0:
			w.Header().Set("Connection", "close")
		case 1: // closes without a word, before the answer or after it
			conn, out, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			if rand.N(2) == 0 {
				fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path)
				_ = out.Flush()
			}
			conn.Close()
			return
		}
		fmt.Fprint(w, r.URL.Path)
	}))
	defer server.Close()
	c, err := newHTTPClient(HTTPOptions{URL: server.URL, Connections: sides / 2})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	var wg sync.WaitGroup
	var right, failed int
	for side := range sides {
		wg.Go(func() {
			for n := range each {
				ctx, cancel := context.WithCancel(t.Context())
				if rand.N(20) == 0 {
					time.AfterFunc(time.Duration(rand.N(1000))*time.Microsecond, cancel)
				}
				path := fmt.Sprintf("/%d/%d", side, n)
				r, err := c.post(ctx, path, nil, []byte("x"))
				cancel()
				mu.Lock()
				if err != nil {
					failed++
				} else if right++; string(r.body) != path {
					t.Errorf("%s was answered %q", path, r.body)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for path, n := range arrived {
		if n > 1 {
			t.Errorf("%s arrived %d times", path, n)
		}
	}
	if right < sides*each/2 || right+failed != sides*each {
		t.Errorf("%d answers, %d failures of %d", right, failed, sides*each)
	}
}
