package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
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

// TestFailedReloadIsSeen: after a reload that fails, the status says so until one succeeds. `postern
// reload` finds the configuration by the main process of the service.
func TestFailedReloadIsSeen(t *testing.T) {
	h := &holder{t: t, config: activatedUsers(t, harness.OneList)}
	n := h.notified()
	p := h.start()
	n.expect(`READY=1\nSTATUS=serving 1 domain on 1 listener`)
	good := harness.ReadText(h.config)
	reload := func(text string) (status int, said string) {
		t.Helper()
		harness.WriteFile(t, h.config, text)
		cmd := exec.Command(harness.Binary, "reload")
		cmd.Env = append(os.Environ(), fmt.Sprintf("MAINPID=%d", p.Cmd.Process.Pid))
		out, _ := cmd.CombinedOutput()
		n.expect(`RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=reloading`)
		return cmd.ProcessState.ExitCode(), string(out)
	}
	const failed = `STATUS=RELOAD FAILED, the configuration of 2[-0-9]+ [:0-9]+ is in force: `
	if status, said := reload(good + "retries = 3\n"); status != 1 || !strings.Contains(said, "retries") {
		t.Errorf("exit status %d, %q", status, said)
	}
	n.expect(`READY=1\n` + failed + `[^\n]*retries[^\n]*`)
	harness.WriteFile(t, h.config, strings.Replace(good, "data_dir = \"", "data_dir = \"/other", 1))
	p.Signal(syscall.SIGHUP) // `postern reload` would look in the other directory
	n.expect(`RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=reloading`)
	n.expect(`READY=1\n` + failed + `[^\n]*data_dir is another[^\n]*`)
	if status, said := reload(good); status != 0 {
		t.Errorf("exit status %d, %q", status, said)
	}
	n.expect(`READY=1\nSTATUS=serving 1 domain on 1 listener`)
}

// TestJournal: what a service writes to systemd's journal has priorities, and no second time.
func TestJournal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	serve := func(config string) *harness.Process {
		p := &harness.Process{T: t}
		p.Cmd = exec.Command(harness.Binary, "serve", "--config", config)
		p.Cmd.Stderr, p.Cmd.Env = file, append(os.Environ(), fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino))
		p.Run()
		return p
	}
	if code := serve("/none/config.hcl").Exit(); code != 1 || !strings.HasPrefix(harness.ReadText(file.Name()), "<3>postern: there is no configuration") {
		t.Errorf("exit status %d, %q", code, harness.ReadText(file.Name()))
	}
	p := serve(activatedUsers(t, harness.OneList))
	harness.WaitFor(t, "it is ready", func() bool { return strings.Contains(harness.ReadText(file.Name()), "\n<6>level=INFO msg=ready ") })
	p.Signal(syscall.SIGTERM)
	_ = p.Exit()
	for line := range strings.Lines(harness.ReadText(file.Name())) {
		if !regexp.MustCompile(`^<[3467]>`).MatchString(line) || strings.Contains(line, "time=") {
			t.Errorf("%q", line)
		}
	}
}
