package backend

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestExchange sends three requests that get the same response. The connection is reused only if
// the response is complete, is as long as it says, and does not close the connection.
func TestExchange(t *testing.T) {
	const fine = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright"
	hint := "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
	cases := []struct {
		name, answer string
		ends         bool // the server closes then
		status       int  // 0: no answer
		body         string
		conns        int32
	}{
		{"length", fine, false, 200, "right", 1},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrig\r\n2;x=y\r\nht\r\n0\r\n\r\n", false, 200, "right", 1},
		{"trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nright\r\n0\r\nX: y\r\n\r\n", false, 200, "right", 1},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", false, 204, "", 1},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, 200, "", 1},
		{"refusal", "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", false, 401, "no", 1},
		{"100 before", "HTTP/1.1 100 Continue\r\n\r\n" + fine, false, 200, "right", 1},
		{"many before", strings.Repeat(hint, 20) + fine, false, 200, "right", 1},
		{"too many before", strings.Repeat(hint, maxHeader/len(hint)+1) + fine, true, 0, "", 3},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", false, 101, "", 3},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nright", false, 200, "right", 3},
		{"to the end", "HTTP/1.1 200 OK\r\n\r\nright", true, 200, "right", 3},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nright", false, 200, "right", 3},
		{"HTTP/1.0 kept", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nright", false, 200, "right", 3},
		{"HTTP/2", "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nright", false, 200, "right", 3},
		{"an answer too many", fine + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", false, 200, "right", 3},
		{"a byte too many", fine + "\n", false, 200, "right", 3},
		{"too long", "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + strings.Repeat("x", 101), false, 0, "", 3},
		{"too long in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + strings.Repeat("x", 101) + "\r\n", false, 0, "", 3},
		{"too long a refusal", "HTTP/1.1 401 No\r\nContent-Length: 101\r\n\r\n" + strings.Repeat("x", 101), false, 401, "", 3},
		{"cut", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nright", true, 0, "", 3},
		{"garbage", "\x16\x03\x01\r\n\r\n", true, 0, "", 3},
		{"header too long", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHeader) + "\r\n\r\n", true, 0, "", 3},
	}
	for _, c := range cases {
		bothWays(t, func(t *testing.T, secure bool) {
			s := newLineServer(t, secure, func(_ int32, conn *corked) {
				conn.hold = true // what follows an answer comes with it
				for rest := c.answer; rest != ""; {
					n := min(len(rest), 1000)
					say(conn, rest[:n])
					rest = rest[n:]
				}
				_, _ = conn.raw.Write(conn.held)
				conn.hold, conn.held = false, nil
				if c.ends {
					conn.raw.Close()
				}
			})
			client := s.client(t, HTTPOptions{MaxResponse: 100})
			for range 3 {
				r, err := client.post(t.Context(), "/", nil, []byte("x=y"))
				if (err != nil) != (c.status == 0) || r.status != c.status || string(r.body) != c.body {
					t.Errorf("%s: HTTP %d, %q, %v; want HTTP %d, %q", c.name, r.status, r.body, err, c.status, c.body)
				}
			}
			if s.asked.Load() != 3 || s.conns.Load() != c.conns {
				t.Errorf("%s: asked %d times over %d connections, want 3 over %d", c.name, s.asked.Load(), s.conns.Load(), c.conns)
			}
		})
	}
}

// TestKeptGoesBad has the server spoil an idle connection before the second request, which must
// then be sent once, over another connection.
func TestKeptGoesBad(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
	for name, spoil := range map[string]func(conn *corked){
		"closed": func(conn *corked) { conn.Close() },
		"reset":  func(conn *corked) { _ = conn.raw.(*net.TCPConn).SetLinger(0); conn.raw.Close() },
		"answer": func(conn *corked) { say(conn, answer+"9") },
		"408":    func(conn *corked) { say(conn, "HTTP/1.1 408 Request Timeout\r\n\r\n") },
	} {
		bothWays(t, func(t *testing.T, secure bool) {
			var first *corked
			s := newLineServer(t, secure, func(n int32, conn *corked) {
				if n == 1 {
					first = conn
				}
				say(conn, answer+string('0'+n))
			})
			client := s.client(t, HTTPOptions{})
			if r, err := client.post(t.Context(), "/", nil, nil); err != nil || string(r.body) != "1" {
				t.Fatalf("%s: %q, %v", name, r.body, err)
			}
			kept := client.pool.idle[0]
			if !kept.idle() {
				t.Fatalf("%s: the kept connection is not idle", name)
			}
			spoil(first)
			for end := time.Now().Add(10 * time.Second); kept.idle(); {
				if time.Now().After(end) {
					t.Fatalf("%s: the kept connection stays idle", name)
				}
				time.Sleep(time.Millisecond)
			}
			r, err := client.post(t.Context(), "/", nil, nil)
			if err != nil || string(r.body) != "2" || s.asked.Load() != 2 || s.conns.Load() != 2 {
				t.Errorf("%s: %q, %v; asked %d times over %d connections", name, r.body, err, s.asked.Load(), s.conns.Load())
			}
		})
	}
}

// TestLateAnswers: a response that a kept connection brings for an earlier request is not believed,
// wherever it turns up, and after one of them no connection is kept.
func TestLateAnswers(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
	bothWays(t, func(t *testing.T, secure bool) {
		t.Run("together with the next", func(t *testing.T) {
			s := newLineServer(t, secure, func(n int32, conn *corked) {
				if n == 1 {
					say(conn, answer+"1")
					return
				}
				say(conn, answer+"1"+answer+"2")
			})
			client := s.client(t, HTTPOptions{})
			if r, err := client.post(t.Context(), "/", nil, nil); err != nil || string(r.body) != "1" {
				t.Fatalf("%q, %v", r.body, err)
			}
			if r, err := client.post(t.Context(), "/", nil, nil); !errors.Is(err, errSurplus) {
				t.Errorf("the late answer was taken: %q, %v", r.body, err)
			}
			if s.asked.Load() != 2 || s.conns.Load() != 1 || len(client.pool.idle) != 0 {
				t.Errorf("asked %d times over %d connections, %d kept", s.asked.Load(), s.conns.Load(), len(client.pool.idle))
			}
		})
		t.Run("after a gateway gave up", func(t *testing.T) {
			s := newLineServer(t, secure, func(n int32, conn *corked) {
				say(conn, "HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n")
			})
			client := s.client(t, HTTPOptions{})
			for range 3 {
				if r, err := client.post(t.Context(), "/", nil, nil); err != nil || r.status != 504 {
					t.Fatalf("%+v, %v", r, err)
				}
			}
			if s.conns.Load() != 3 {
				t.Errorf("3 requests took %d connections", s.conns.Load())
			}
		})
		t.Run("while idle", func(t *testing.T) {
			var first *corked
			s := newLineServer(t, secure, func(n int32, conn *corked) {
				if n == 1 {
					first = conn
				}
				say(conn, answer+string('0'+n))
			})
			client := s.client(t, HTTPOptions{})
			for n := range 5 {
				r, err := client.post(t.Context(), "/", nil, nil)
				if err != nil || string(r.body) != string('1'+rune(n)) {
					t.Fatalf("%q, %v", r.body, err)
				}
				if n > 0 {
					continue
				}
				kept := client.pool.idle[0]
				say(first, answer+"9")
				for end := time.Now().Add(10 * time.Second); kept.idle(); {
					if time.Now().After(end) {
						t.Fatal("the kept connection stays idle")
					}
					time.Sleep(time.Millisecond)
				}
			}
			if s.conns.Load() != 5 {
				t.Errorf("5 requests took %d connections", s.conns.Load())
			}
		})
	})
}

// TestDrip: a server that sends a byte now and then cannot delay a request beyond its timeout.
func TestDrip(t *testing.T) {
	for name, start := range map[string]string{
		"status": "", "header": "HTTP/1.1 200 OK\r\nX: ", "body": "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9999\r\n",
	} {
		bothWays(t, func(t *testing.T, secure bool) {
			s := newLineServer(t, secure, func(_ int32, conn *corked) {
				for _, err := io.WriteString(conn, start); err == nil; _, err = io.WriteString(conn, "1") {
					time.Sleep(5 * time.Millisecond)
				}
			})
			begun := time.Now()
			_, err := s.client(t, HTTPOptions{Timeout: 100 * time.Millisecond}).post(t.Context(), "/", nil, nil)
			if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		})
	}
}

// TestEnded: no request is sent after its context was cancelled or its deadline passed.
func TestEnded(t *testing.T) {
	s := newLineServer(t, false, func(_ int32, conn *corked) { say(conn, "HTTP/1.1 204 No Content\r\n\r\n") })
	client := s.client(t, HTTPOptions{})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for range 2 { // without and with a kept connection
		asked := s.asked.Load()
		if _, err := client.post(cancelled, "/", nil, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if _, err := client.post(late, "/", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("late: %v", err)
		}
		if s.asked.Load() != asked {
			t.Error("the server was asked")
		}
		if _, err := client.post(t.Context(), "/", nil, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestRequest: package net/http reads the same request, and no field can add a line to it.
func TestRequest(t *testing.T) {
	var seen *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	c, err := newHTTPClient(HTTPOptions{URL: server.URL + "/a b/\u00fc?c=d#e", UserAgent: "agent"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, q := range []request{
		{http.MethodPost, c.target, []headerField{{"X", "y"}}, []byte("body"), false},
		{http.MethodPost, c.target, []headerField{{"X", "y"}}, nil, false},
		{http.MethodGet, c.target, []headerField{{"X", "y"}}, nil, true},
	} {
		if _, err := c.do(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		if seen.Method != q.method || seen.RequestURI != "/a%20b/%C3%BC?c=d" || string(body) != string(q.body) ||
			seen.Header.Get("X") != "y" || seen.UserAgent() != "agent" || seen.Host != server.Listener.Addr().String() ||
			seen.ContentLength != int64(len(q.body)) || seen.Header.Get("Accept-Encoding") != "" {
			t.Errorf("%+v arrived as %+v, %q", q, seen, body)
		}
	}
	for _, q := range []request{
		{http.MethodPost, "/\r\nX: " + canary, nil, nil, false}, {http.MethodPost, "/", []headerField{{"X", "y\nZ: " + canary}}, nil, false},
	} {
		if _, err := c.do(t.Context(), q); !errors.Is(err, errBadRequest) {
			t.Errorf("%q: %v", q.target, err)
		}
	}
}
