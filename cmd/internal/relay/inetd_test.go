package relay

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"postern/wire"
)

// A listening standard input goes back to inetd when nobody has been there for a while, but not
// while somebody is.
func TestServeEndsWhenIdle(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !Listens(f) {
		t.Fatal("the socket does not listen")
	}
	nobody := filepath.Join(t.TempDir(), "none.sock")
	options := func() Options {
		return Options{Protocol: wire.Generic, Deadline: time.Millisecond, Pipeline: 4, Socket: nobody, Log: slog.New(slog.DiscardHandler)}
	}
	const idle = 100 * time.Millisecond
	ended := make(chan error, 1)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { ended <- Serve(context.Background(), f, options, idle) }()
	if _, err := io.WriteString(c, "isuser:joe:dom.example\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended with somebody there: %v", err)
	case <-time.After(3 * idle):
	}
	_ = c.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("did not end")
	}
}
