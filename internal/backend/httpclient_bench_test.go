package backend

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const benchAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Length: 53\r\n\r\n" +
	`{"result":"success","data":{"uid":"x","isUser":true}}`

// echoing starts a server that answers every read with the same response. It makes no allocations
// that would count.
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

func ours(tb testing.TB) func() error { return oursAt(tb, echoing(tb)) }

func oursAt(tb testing.TB, url string) func() error {
	c, err := newHTTPClient(HTTPOptions{URL: url, UserAgent: "x"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.close)
	header := []headerField{{"Content-Type", "application/x-www-form-urlencoded"}, {"Accept", "application/json"}}
	ctx := tb.Context()
	return func() error {
		_, err := c.post(ctx, c.target, header, benchBody)
		return err
	}
}

// tuned uses package net/http's client, with options as close to ours as possible.
func tuned(tb testing.TB) func() error {
	url := serverProcess(tb)
	transport := &http.Transport{
		DisableCompression: true, MaxIdleConns: 32, MaxIdleConnsPerHost: 32, IdleConnTimeout: idleTimeout,
		MaxResponseHeaderBytes: maxHeader, WriteBufferSize: 4 << 10, ReadBufferSize: 4 << 10,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}
	tb.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}, "User-Agent": {"x"}}
	return func() error {
		ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(benchBody))
		if err != nil {
			return err
		}
		req.Header = header
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return err
	}
}

// serverEnv makes the test binary a server of benchAnswer until its standard input ends.
const serverEnv = "POSTERN_TEST_HTTP_SERVER"

// serverProcess starts a server in another process, so that its CPU time does not count.
func serverProcess(tb testing.TB) (url string) {
	tb.Helper()
	child := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkExchange$", "-test.benchtime=1x")
	child.Env = append(os.Environ(), serverEnv+"=1")
	in, err := child.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := child.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { in.Close(); _ = child.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if url, found := strings.CutPrefix(lines.Text(), "url "); found {
			return url
		}
	}
	tb.Fatal("the server process has not said its URL")
	return ""
}

// cpu is the CPU time that this process has used, in user and system mode.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// BenchmarkExchange compares the client's CPU time per request with that of package net/http's
// client, for one and for 16 requests at a time, with a server in another process.
func BenchmarkExchange(b *testing.B) {
	if os.Getenv(serverEnv) != "" {
		fmt.Println("url " + echoing(b))
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	own := func(tb testing.TB) func() error { return oursAt(tb, serverProcess(tb)) }
	for _, parallel := range []int{1, 16} {
		for name, connect := range map[string]func(testing.TB) func() error{"own": own, "net/http": tuned} {
			b.Run(fmt.Sprintf("%s/%d", name, parallel), func(b *testing.B) {
				ask := connect(b)
				b.ReportAllocs()
				b.ResetTimer()
				before := cpu(b)
				var wg sync.WaitGroup
				for side := range parallel {
					wg.Go(func() {
						for n := side; n < b.N; n += parallel {
							if err := ask(); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
