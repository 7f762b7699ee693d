package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inetd starts a pipe whose standard streams are all one socket, as inetd does.
func inetd(t *testing.T, socket interface{ File() (*os.File, error) }, args ...string) *process {
	t.Helper()
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &process{t: t, cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = f, f, f
	p.run()
	return p
}

// The "nowait" style: the pipe talks on the connection that it was given, and logs elsewhere.
func TestInetdConnection(t *testing.T) {
	config, data := pipeUsers(t, "log { level = \"debug\" }\n")
	dir := t.TempDir()
	for protocol, d := range dialects() {
		for _, at := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", filepath.Join(dir, protocol)}} {
			l, err := net.Listen(at[0], at[1])
			if err != nil {
				t.Fatal(err)
			}
			client := connect(t, l.Addr().String())
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			p := inetd(t, conn.(interface{ File() (*os.File, error) }), "pipe", "--protocol", protocol, "--config", config)
			_, _ = conn.Close(), l.Close()
			say(t, client, d.yes, d.isYes)
			if !d.once {
				say(t, client, d.nonsense+d.no, d.isNonsense+d.isNo)
			}
			_ = client.(interface{ CloseWrite() error }).CloseWrite()
			closedBy(t, client) // and not a byte of the log came
			if code := p.exit(); code != 0 {
				t.Errorf("%s: exit status %d", protocol, code)
			}
		}
	}
	fileSays(t, filepath.Join(data, "pipe.log"), "msg=")
}

// The "wait" style: the pipe answers all who connect, until it is told to end. The socket stays
// inetd's, with those who wait in its queue.
func TestInetdListening(t *testing.T) {
	config, _ := pipeUsers(t, "")
	d := dialects()["saslauthd"]
	path := filepath.Join(t.TempDir(), "mux")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		early := connect(t, path)
		p := inetd(t, l.(*net.UnixListener), "pipe", "--protocol", "saslauthd", "--config", config)
		say(t, early, d.yes, d.isYes)
		for range 3 {
			say(t, connect(t, path), d.no, d.isNo)
		}
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("exit status %d", code)
		}
	}
	// With a configuration that is not usable it stays, too.
	p := inetd(t, l.(*net.UnixListener), "pipe", "--protocol", "saslauthd", "--config", "/none/x.hcl")
	say(t, connect(t, path), d.yes, d.isCannot)
	p.signal(syscall.SIGTERM)
	p.exit()
}

// A listening standard input is relayed to a daemon that is named, too.
func TestInetdRelay(t *testing.T) {
	s, config := usersServer(t)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inetd(t, l, "pipe", "--protocol", "generic", "--socket", filepath.Join(dataDirOf(config), relayFile))
	say(t, connect(t, l.Addr().String()), "auth:joe:dom.example:secret\n", "1\n")
	s.eventually("a decision", func() bool { return strings.Contains(s.log.String(), "front=pipe op=auth") })
}

// A listening standard input is accepted from again when descriptors were short for a while: as
// long as the process stays, nobody else does it.
func TestInetdOutOfDescriptors(t *testing.T) {
	_, config := usersServer(t)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct{ flag, value, answer string }{
		{"--socket", filepath.Join(dataDirOf(config), relayFile), "1\n"},
		{"--config", "/none/x.hcl", "0\n"},
	} {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		p := &process{t: t, cmd: exec.Command(binary, "pipe", "--protocol", "generic", c.flag, c.value), ended: make(chan struct{})}
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = f, f, &p.log
		p.run()
		_ = f.Close()
		first := connect(t, l.Addr().String())
		say(t, first, "isuser:joe:dom.example\n", c.answer)
		limit := func(new *unix.Rlimit) (old unix.Rlimit) {
			if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, new, &old); err != nil {
				t.Fatal(err)
			}
			return old
		}
		before := limit(nil)
		limit(&unix.Rlimit{Max: before.Max})
		second := connect(t, l.Addr().String())
		p.logged("cannot accept connections")
		limit(&before)
		say(t, second, "isuser:joe:dom.example\n", c.answer)
		say(t, first, "isuser:joe:dom.example\n", c.answer)
		p.signal(syscall.SIGTERM)
		_, _ = first.Close(), second.Close()
		p.exit()
	}
}
