package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager opens NOTIFY_SOCKET as a service manager does.
func manager(t *testing.T, name string) (receive func() string) {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return func() string {
		t.Helper()
		_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 4096)
		n, err := l.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestNotify(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@postern-test-%d", os.Getpid())} {
		receive := manager(t, name)
		n := NewNotifier(slog.New(slog.DiscardHandler))
		if _, ok := os.LookupEnv("NOTIFY_SOCKET"); ok {
			t.Error("a child would see NOTIFY_SOCKET")
		}
		n.Ready("serving 1 domain")
		if got := receive(); got != "READY=1\nSTATUS=serving 1 domain" {
			t.Errorf("%q", got)
		}
		n.Reloading()
		if got := receive(); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+\nSTATUS=reloading$`).MatchString(got) {
			t.Errorf("%q", got)
		}
		n.Stopping("bye")
		if got := receive(); got != "STOPPING=1\nSTATUS=bye" {
			t.Errorf("%q", got)
		}
	}
}

// Without a service manager, and after it is gone, nothing is sent and nothing fails.
func TestNotifyNobody(t *testing.T) {
	var none *Notifier
	none.Ready("")
	none.Reloading()
	none.Stopping("")
	none.Watch(context.Background(), nil)
	for name, c := range map[string]struct{ socket, logged string }{
		"none":   {"", ""},
		"gone":   {filepath.Join(t.TempDir(), "gone"), "cannot notify the service manager"},
		"family": {"vsock:2:1234", "neither a path nor an abstract name"},
	} {
		var log bytes.Buffer
		t.Setenv("NOTIFY_SOCKET", c.socket)
		n := NewNotifier(slog.New(slog.NewTextHandler(&log, nil)))
		n.Ready("x")
		n.Watch(context.Background(), nil)
		if (log.Len() > 0) != (c.logged != "") || !strings.Contains(log.String(), c.logged) {
			t.Errorf("%s: %s", name, log.String())
		}
	}
}

// The watchdog is notified while the service responds, and again once it has recovered.
func TestWatch(t *testing.T) {
	receive := manager(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "50000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	var log bytes.Buffer
	n := NewNotifier(slog.New(slog.NewTextHandler(&log, nil)))
	if os.Getenv("WATCHDOG_USEC")+os.Getenv("WATCHDOG_PID") != "" {
		t.Error("a child would see the watchdog")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var asked atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Watch(ctx, func(ctx context.Context) error {
			switch asked.Add(1) {
			case 3: // an error at once
				n.Stopping("wedged")
				return errors.New("no sign of life from test")
			case 4: // no answer at all
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
	}()
	for i, want := range []string{"WATCHDOG=1", "WATCHDOG=1", "STOPPING=1\nSTATUS=wedged", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := receive(); got != want {
			t.Fatalf("message %d: %q, want %q", i, got, want)
		}
	}
	if n := asked.Load(); n < 6 {
		t.Errorf("notified after %d checks; the third and fourth failed", n)
	}
	cancel()
	<-ended
	if !strings.Contains(log.String(), "no sign of life from test") || strings.Count(log.String(), "level=ERROR") != 2 {
		t.Error(log.String())
	}
}

// Without a watchdog for this process, Watch returns without a call of alive.
func TestNoWatchdog(t *testing.T) {
	for _, c := range []struct{ usec, pid string }{
		{"", ""}, {"50000", strconv.Itoa(os.Getpid() + 1)}, {"x", ""}, {"0", ""}, {"-5", ""}, {"9223372036854775807", ""},
	} {
		manager(t, filepath.Join(t.TempDir(), "notify"))
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		NewNotifier(slog.New(slog.DiscardHandler)).Watch(context.Background(), nil)
	}
}

// TestKeep: descriptors go to the service manager with their names, and a barrier ends when the manager
// has read all that was sent before.
func TestKeep(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	n := NewNotifier(slog.New(slog.DiscardHandler))
	l := listen(t, "tcp", "127.0.0.1:0").(*net.TCPListener)
	done := make(chan error, 1)
	go func() {
		done <- errors.Join(n.Keep("postern-listener-1", l), n.Drop("postern-memory"), n.Barrier())
	}()
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	for _, want := range []struct {
		text string
		fds  int
	}{{"FDSTORE=1\nFDNAME=postern-listener-1", 1}, {"FDSTOREREMOVE=1\nFDNAME=postern-memory", 0}, {"BARRIER=1", 1}} {
		k, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil {
			t.Fatal(err)
		}
		var fds []int
		list, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for i := range list {
			fds, _ = unix.ParseUnixRights(&list[i])
		}
		if string(buf[:k]) != want.text || len(fds) != want.fds {
			t.Errorf("sent %q with %d descriptors", buf[:k], len(fds))
		}
		select {
		case err := <-done:
			t.Fatalf("the barrier has ended before: %v", err)
		default:
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestIsKept(t *testing.T) {
	for name, want := range map[string]bool{
		"postern-memory": true, "postern-listener-0123": true,
		"ejabberd": false, "postern-ejabberd.socket": false, "postern-listener-a.socket": false, "unknown": false, "": false,
	} {
		if IsKept(name) != want {
			t.Errorf("%q: not %t", name, want)
		}
	}
}
