package pipes

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"postern/cmd/e2e/harness"
)

// inetd starts a pipe with one socket as all of its standard streams, as inetd does.
func inetd(t *testing.T, socket interface{ File() (*os.File, error) }, args ...string) *harness.Process {
	t.Helper()
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &harness.Process{T: t, Cmd: exec.Command(harness.Binary, args...)}
	p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr = f, f, f
	p.Run()
	return p
}

// The "nowait" style: the pipe talks on the connection that it was given, and logs elsewhere.
func TestInetdConnection(t *testing.T) {
	config, data := harness.PipeUsers(t, "log { level = \"debug\" }\n")
	dir := t.TempDir()
	for protocol, d := range harness.Dialects() {
		for _, at := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", filepath.Join(dir, protocol)}} {
			l, err := net.Listen(at[0], at[1])
			if err != nil {
				t.Fatal(err)
			}
			client := harness.Connect(t, l.Addr().String())
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			p := inetd(t, conn.(interface{ File() (*os.File, error) }), "pipe", "--protocol", protocol, "--config", config)
			_, _ = conn.Close(), l.Close()
			harness.Say(t, client, d.Yes, d.IsYes)
			if !d.Once {
				harness.Say(t, client, d.Nonsense+d.No, d.IsNonsense+d.IsNo)
			}
			_ = client.(interface{ CloseWrite() error }).CloseWrite()
			harness.ClosedBy(t, client) // and not a byte of the log came
			if code := p.Exit(); code != 0 {
				t.Errorf("%s: exit status %d", protocol, code)
			}
		}
	}
	harness.FileSays(t, filepath.Join(data, "pipe.log"), "msg=")
}

// The "wait" style: the pipe answers all connections, until SIGTERM. The socket stays inetd's, with
// the connections in its queue.
func TestInetdListening(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	d := harness.Dialects()["saslauthd"]
	path := filepath.Join(t.TempDir(), "mux")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		early := harness.Connect(t, path)
		p := inetd(t, l.(*net.UnixListener), "pipe", "--protocol", "saslauthd", "--config", config)
		harness.Say(t, early, d.Yes, d.IsYes)
		for range 3 {
			harness.Say(t, harness.Connect(t, path), d.No, d.IsNo)
		}
		p.Signal(syscall.SIGTERM)
		if code := p.Exit(); code != 0 {
			t.Errorf("exit status %d", code)
		}
	}
	// With a configuration that is not usable it stays, too.
	p := inetd(t, l.(*net.UnixListener), "pipe", "--protocol", "saslauthd", "--config", "/none/x.hcl")
	harness.Say(t, harness.Connect(t, path), d.Yes, d.IsCannot)
	p.Signal(syscall.SIGTERM)
	p.Exit()
}

// A listening standard input is relayed to a daemon that is named, too.
func TestInetdRelay(t *testing.T) {
	s, config := harness.UsersServer(t)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inetd(t, l, "pipe", "--protocol", "generic", "--socket", filepath.Join(harness.DataDirOf(config), harness.RelaySocket))
	harness.Say(t, harness.Connect(t, l.Addr().String()), "auth:joe:dom.example:secret\n", "1\n")
	s.Eventually("a decision", func() bool { return strings.Contains(s.Log.String(), "front=pipe op=auth") })
}

// A listening standard input is accepted from again when descriptors were short for a while: as
// long as the process stays, inetd does not.
func TestInetdOutOfDescriptors(t *testing.T) {
	_, config := harness.UsersServer(t)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct{ flag, value, answer string }{
		{"--socket", filepath.Join(harness.DataDirOf(config), harness.RelaySocket), "1\n"},
		{"--config", "/none/x.hcl", "0\n"},
	} {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		p := &harness.Process{T: t, Cmd: exec.Command(harness.Binary, "pipe", "--protocol", "generic", c.flag, c.value)}
		p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr = f, f, &p.Log
		p.Run()
		_ = f.Close()
		first := harness.Connect(t, l.Addr().String())
		harness.Say(t, first, "isuser:joe:dom.example\n", c.answer)
		limit := func(new *unix.Rlimit) (old unix.Rlimit) {
			if err := unix.Prlimit(p.Cmd.Process.Pid, unix.RLIMIT_NOFILE, new, &old); err != nil {
				t.Fatal(err)
			}
			return old
		}
		before := limit(nil)
		limit(&unix.Rlimit{Max: before.Max})
		second := harness.Connect(t, l.Addr().String())
		p.Logged("cannot accept connections")
		limit(&before)
		harness.Say(t, second, "isuser:joe:dom.example\n", c.answer)
		harness.Say(t, first, "isuser:joe:dom.example\n", c.answer)
		p.Signal(syscall.SIGTERM)
		_, _ = first.Close(), second.Close()
		p.Exit()
	}
}
