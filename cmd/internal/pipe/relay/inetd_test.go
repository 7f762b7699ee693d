package relay

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/wire"
)

// A listening standard input goes back to inetd when there has been no connection for a while, but
// not while one is open.
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
		t.Fatalf("ended with an open connection: %v", err)
	case <-time.After(3 * idle):
	}
	_ = c.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Minute):
		t.Error("did not end")
	}
}

// A process under inetd stays after its connections are closed, but does not keep the lock of the
// broker that it started for them.
func TestServeLeavesTheLock(t *testing.T) {
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
	dir := t.TempDir()
	number, lock := filepath.Join(dir, "pid"), filepath.Join(dir, "lock")
	sleeps := `echo $$ > "$1~"; mv "$1~" "$1"; exec sleep 1000`
	var mu sync.Mutex
	var spawners []*Spawner // none is collected, with its file, while the test runs
	options := func() Options {
		mu.Lock()
		defer mu.Unlock()
		spawner := &Spawner{Lock: lock, Command: []string{"/bin/sh", "-c", sleeps, "sh", number}, Log: Nowhere}
		spawners = append(spawners, spawner)
		return Options{Protocol: wire.Generic, Deadline: time.Minute, Pipeline: 4, Socket: filepath.Join(dir, "none.sock"),
			Spawner: spawner, Log: slog.New(slog.DiscardHandler)}
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, f, options, time.Hour) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	broker := 0
	eventually(t, "a broker is started", func() bool {
		text, _ := os.ReadFile(number)
		broker, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return broker != 0
	})
	defer func() { _ = syscall.Kill(broker, syscall.SIGKILL) }()
	if free(t, lock) {
		t.Error("the broker does not hold the lock")
	}
	_ = c.Close()
	if err := syscall.Kill(broker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lock is free", func() bool { return free(t, lock) })
	stop()
	_ = l.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(spawners)
}

// free reports whether a lock is not held.
func free(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil
}

func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !met(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}
