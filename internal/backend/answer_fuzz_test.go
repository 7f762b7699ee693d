package backend

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// textConn is a connection over which the server has sent a text and closed.
type textConn struct {
	net.Conn
	text *bytes.Reader
}

func (c textConn) Read(b []byte) (int, error)  { return c.text.Read(b) }
func (c textConn) Write(b []byte) (int, error) { return len(b), nil }
func (c textConn) SetDeadline(time.Time) error { return nil }
func (c textConn) LocalAddr() net.Addr         { return nil }

// FuzzAnswer reads any bytes as a response. An accepted response is what package net/http reads,
// within bounds, and the connection is reused only if nothing is left to read.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 204 No\r\n\r\nx",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nx", "HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nx", "SSH-2.0-x\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		const most = 1000
		c := &httpClient{options: HTTPOptions{MaxResponse: most}}
		w := &countingConn{Conn: textConn{text: bytes.NewReader(text)}}
		l := newHTTPConn(w, w)
		r, reuse, err := c.exchange(l, request{method: http.MethodPost, target: "/", body: []byte("x")})
		if err != nil {
			if reuse {
				t.Fatal("clean after an error")
			}
			return
		}
		if len(r.body) > most {
			t.Fatalf("%d bytes", len(r.body))
		}
		if reuse && (r.truncated || l.br.Buffered() > 0) {
			t.Fatal("clean, but there is more")
		}
		br := bufio.NewReader(bytes.NewReader(text))
		resp, err := http.ReadResponse(br, nil)
		for err == nil && resp.StatusCode/100 == 1 && resp.StatusCode != 101 {
			resp, err = http.ReadResponse(br, nil)
		}
		if err != nil || resp.StatusCode != r.status {
			t.Fatalf("HTTP %d, but net/http reads %v, %v", r.status, resp, err)
		}
		if body, err := io.ReadAll(io.LimitReader(resp.Body, most+1)); !r.truncated && (err != nil || !bytes.Equal(body, r.body)) {
			t.Fatalf("%q, but net/http reads %q, %v", r.body, body, err)
		}
	})
}
