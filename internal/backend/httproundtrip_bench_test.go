package backend

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

const benchAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Length: 53\r\n\r\n" +
	`{"result":"success","data":{"uid":"x","isUser":true}}`

// echoing is a server that gives the same answer to whatever a Read brings, and makes no
// allocations that would count.
func echoing(tb testing.TB) (url string) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for b, answer := make([]byte, 4096), []byte(benchAnswer); ; {
					if _, err := conn.Read(b); err != nil {
						return
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

var benchBody = []byte("operation=auth&username=joe&domain=example.org&password=password")

func ours(tb testing.TB) func() error {
	c, err := newHTTPClient(HTTPOptions{URL: echoing(tb), UserAgent: "x"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.close)
	header := []field{{"Content-Type", "application/x-www-form-urlencoded"}, {"Accept", "application/json"}}
	ctx := tb.Context()
	return func() error {
		_, err := c.post(ctx, c.target, header, benchBody)
		return err
	}
}

// BenchmarkExchange is one question to a server that answers at once, beside the same by package
// net/http's client.
func BenchmarkExchange(b *testing.B) {
	run := func(b *testing.B, ask func() error) {
		b.ReportAllocs()
		for b.Loop() {
			if err := ask(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("own", func(b *testing.B) { run(b, ours(b)) })
	b.Run("net/http", func(b *testing.B) {
		transport := &http.Transport{DisableCompression: true}
		defer transport.CloseIdleConnections()
		url := echoing(b)
		run(b, func() error {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader(string(benchBody)))
			if err != nil {
				return err
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := transport.RoundTrip(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.ReadAll(resp.Body)
			return err
		})
	})
}
