// Package fronttest has what tests of listeners need on the client's side.
package fronttest

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Socket opens a listening socket on loopback. network is tcp or unix.
func Socket(t testing.TB, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "postern") // a socket's path may have 107 bytes: no t.TempDir
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		address = filepath.Join(dir, "socket")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Conn is a TCP or a Unix connection.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Dial connects to the address of a Socket, for the time of the test and at most 60 s.
func Dial(t testing.TB, address string) Conn {
	t.Helper()
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	return c.(Conn)
}

// Exchange sends input in one write, ends sending, and returns everything that comes back.
func Exchange(t testing.TB, address, input string) string {
	t.Helper()
	c := Dial(t, address)
	go func() {
		_, _ = io.WriteString(c, input)
		_ = c.CloseWrite()
	}()
	out, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %q: %v", out, err)
	}
	return string(out)
}

// RoundTrip sends input on an open connection and compares what comes back.
func RoundTrip(t testing.TB, c net.Conn, input, want string) {
	t.Helper()
	if _, err := io.WriteString(c, input); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	Same(t, string(got), want)
}

// Ended checks that a connection is ended by the other side, after some last words.
func Ended(t testing.TB, c net.Conn, words string) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("after %q: %v", got, err)
	}
	Same(t, string(got), words)
}

// Same compares the bytes of a dialogue and shows where they differ.
func Same(t testing.TB, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	from := max(at-20, 0)
	t.Errorf("got %d bytes, want %d; from byte %d got %q, want %q", len(got), len(want), from,
		got[from:min(at+40, len(got))], want[from:min(at+40, len(want))])
}

// Eventually waits for a condition that another goroutine brings about.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// Within fails the test if f takes longer than timeout: for what would otherwise hang for ever.
func Within(t testing.TB, timeout time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(timeout):
		t.Fatalf("%s takes more than %v", what, timeout)
	}
}

// Log is a log that a test reads while it is written.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns everything that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
