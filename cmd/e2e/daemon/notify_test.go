package daemon

import (
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// notifications is a service manager's end of NOTIFY_SOCKET.
type notifications struct {
	t    *testing.T
	conn *net.UnixConn
}

func (h *holder) notified() *notifications {
	h.t.Helper()
	name := filepath.Join(h.t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	h.env = append(h.env, "NOTIFY_SOCKET="+name)
	return &notifications{h.t, conn}
}

// next returns the next message that is neither of the watchdog nor about the store of descriptors, and
// how many of the former came before.
func (n *notifications) next() (message string, pets int) {
	n.t.Helper()
	buf := make([]byte, 4096)
	for {
		_ = n.conn.SetReadDeadline(time.Now().Add(harness.Timeout))
		k, err := n.conn.Read(buf)
		if err != nil {
			n.t.Fatalf("after %d times WATCHDOG: %v", pets, err)
		}
		switch message = string(buf[:k]); {
		case strings.HasPrefix(message, "FDSTORE"):
		case message != "WATCHDOG=1":
			return message, pets
		default:
			pets++
		}
	}
}

func (n *notifications) expect(pattern string) {
	n.t.Helper()
	if got, _ := n.next(); !regexp.MustCompile(`^` + pattern + `$`).MatchString(got) {
		n.t.Errorf("notified %q, want %s", got, pattern)
	}
}

// A service manager is notified when the daemon serves, reloads and stops, and that it lives.
func TestNotifications(t *testing.T) {
	h := &holder{t: t, config: activatedUsers(t, "listen \"generic\" { address = \"127.0.0.1:0\" }\n")}
	address := h.hold("ejabberd", "tcp", "127.0.0.1:0")
	h.hold("odd", "tcp", "127.0.0.1:0")
	h.env = append(h.env, "WATCHDOG_USEC=100000")
	n := h.notified()
	p := h.start()
	const status = `STATUS=serving 1 domain on 2 listeners; 1 socket of unknown name not served`
	n.expect(`READY=1\n` + status)
	// It is ready when it says so.
	if got := harness.Exchange(t, address, harness.Dialects()["ejabberd"].Yes); got != harness.Dialects()["ejabberd"].IsYes {
		t.Errorf("answered %q", got)
	}
	buf := make([]byte, 100)
	for range 3 {
		_ = n.conn.SetReadDeadline(time.Now().Add(harness.Timeout))
		if k, err := n.conn.Read(buf); err != nil || string(buf[:k]) != "WATCHDOG=1" {
			t.Fatalf("%q, %v", buf[:k], err)
		}
	}
	p.Signal(syscall.SIGHUP)
	n.expect(`RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=reloading`)
	n.expect(`READY=1\n` + status)
	p.Signal(syscall.SIGTERM)
	n.expect(`STOPPING=1\nSTATUS=answering what is in flight`)
	n.expect(`BARRIER=1`)
	if code := p.Exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// A daemon that cannot start never says that it is ready.
func TestNotReady(t *testing.T) {
	h := &holder{t: t, config: activatedUsers(t, "listen \"generic\" { address = \"systemd:none\" }\n")}
	n := h.notified()
	if code := h.start().Exit(); code != 1 {
		t.Errorf("exit status %d", code)
	}
	_ = n.conn.SetReadDeadline(time.Now())
	buf := make([]byte, 100)
	if k, err := n.conn.Read(buf); err == nil {
		t.Errorf("notified %q", buf[:k])
	}
}
