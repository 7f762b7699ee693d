package harness

import (
	"bufio"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// Exchange sends input to an address, ends sending, and returns what comes back.
func Exchange(t *testing.T, address, input string) string {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return ExchangeOn(t, c, input)
}

// ExchangeOn is Exchange on a connection, which it closes.
func ExchangeOn(t *testing.T, c net.Conn, input string) string {
	t.Helper()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(Timeout))
	if _, err := io.WriteString(c, input); err != nil {
		t.Fatal(err)
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	out, err := io.ReadAll(bufio.NewReader(c))
	if err != nil {
		t.Fatalf("after %q: %v", out, err)
	}
	return string(out)
}

// Pipe opens a pipe until the end of the test.
func Pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// Connect opens a connection to a listener's address.
func Connect(t *testing.T, address string) net.Conn {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(Timeout))
	return c
}

// Say writes to a connection and compares what comes back.
func Say(t *testing.T, c net.Conn, text, want string) {
	t.Helper()
	if text != "" { // even writing nothing fails where the peer has answered and gone
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q was answered %q, %v; want %q", text, got[:n], err, want)
	}
}

// ClosedBy checks that the other side ends a connection without another byte.
func ClosedBy(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(Timeout))
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("the connection was not closed: %q, %v", rest, err)
	}
}
