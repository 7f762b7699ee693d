package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// activated is what a configuration without a listener says.
const activated = `
backend "users" "local" { bcrypt_cost = 4 }
domain "dom.example" {
  backends = [backend.users.local]
  cache { bcrypt_cost = 4 }
}
`

// activatedUsers writes a configuration with the account joe, password secret.
func activatedUsers(t *testing.T, more string) (config string) {
	t.Helper()
	config = harness.ConfigFile(t, t.TempDir(), activated+more)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	return config
}

// socketActivate runs a command under systemd-socket-activate, which starts it at the first
// connection.
func socketActivate(t *testing.T, names string, addresses []string, args ...string) *harness.Process {
	t.Helper()
	flags := []string{"-E", "GORACE", "--fdname=" + names}
	for _, a := range addresses {
		flags = append(flags, "-l", a)
	}
	p := &harness.Process{T: t}
	p.Cmd = exec.Command(harness.Program(t, "systemd-socket-activate"), append(append(flags, harness.Binary), args...)...)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.Log, &p.Log
	p.Run()
	for _, a := range addresses {
		p.Logged("Listening on " + a)
	}
	return p
}

// The real systemd passes sockets: by the protocols' names and by xcauth's, without a listen
// block and with one, and over TCP and a Unix socket.
func TestSocketActivation(t *testing.T) {
	d := harness.Dialects()
	mux := filepath.Join(t.TempDir(), "mux")
	a := []string{harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t), mux, harness.FreeAddress(t)}
	config := activatedUsers(t, "listen \"late\" {\n  protocol = \"socketmap\"\n  address = \"systemd:tables\"\n}\n")
	p := socketActivate(t, "ejabberd:prosody:postfix:tables:saslauthd:odd", a, "serve", "--config", config)
	before, err := os.Lstat(mux)
	if err != nil {
		t.Fatal(err)
	}
	for i, protocol := range []string{"ejabberd", "generic", "tcp_table", "socketmap", "saslauthd"} {
		if got := harness.Exchange(t, a[i], d[protocol].Yes); got != d[protocol].IsYes {
			t.Errorf("%s answered %q\n%s", protocol, got, p.Log.String())
		}
	}
	for _, line := range []string{
		"msg=listening listener=prosody protocol=generic activated=true address=" + a[1],
		"msg=listening listener=late protocol=socketmap activated=true address=" + a[3],
		"name=odd address=" + a[5], "msg=ready",
	} {
		p.Logged(line)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if after, err := os.Lstat(mux); err != nil || after.Mode() != before.Mode() {
		t.Errorf("the end of the daemon changed systemd's socket file: %v, %v", after, err)
	}
}

// A listener at a socket that was not passed is an error that names those that were.
func TestSocketMissing(t *testing.T) {
	config := activatedUsers(t, "listen \"generic\" { address = \"systemd:front\" }\n")
	r := harness.Command(t, "", "serve", "--config", config)
	if r.Code != 1 || !strings.Contains(r.Err, `systemd passed no socket named "front"`) || !strings.Contains(r.Err, "started by hand") {
		t.Errorf("by hand: exit status %d, %q", r.Code, r.Err)
	}
	address := harness.FreeAddress(t)
	p := socketActivate(t, "prosody", []string{address}, "serve", "--config", config)
	c := harness.Connect(t, address)
	p.Logged(`passed were "prosody" at ` + address)
	if code := p.Exit(); code != 1 {
		t.Errorf("exit status %d", code)
	}
	_ = c.Close()
}

// holder holds listening sockets as systemd does, and passes them to one daemon after another.
type holder struct {
	t      *testing.T
	config string
	names  []string
	files  []*os.File
	env    []string
}

func (h *holder) hold(name, network, address string) string {
	h.t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		h.t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		h.t.Fatal(err)
	}
	_ = l.Close() // f is a descriptor of its own
	h.t.Cleanup(func() { _ = f.Close() })
	h.names, h.files = append(h.names, name), append(h.files, f)
	return l.Addr().String()
}

// start runs a daemon with the sockets. A shell puts its own process id, which becomes the
// daemon's, into LISTEN_PID.
func (h *holder) start(args ...string) *harness.Process {
	h.t.Helper()
	const script = `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$@"`
	p := &harness.Process{T: h.t}
	p.Cmd = exec.Command("/bin/sh", append([]string{"-c", script, "sh", harness.Binary, "serve", "--config", h.config}, args...)...)
	p.Cmd.Env = append(os.Environ(), h.env...)
	if len(h.files) > 0 {
		p.Cmd.Env = append(p.Cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(h.files)), "LISTEN_FDNAMES="+strings.Join(h.names, ":"))
	}
	p.Cmd.ExtraFiles, p.Cmd.Stdout, p.Cmd.Stderr = h.files, &p.Log, &p.Log
	p.Run()
	return p
}

func (h *holder) stop(p *harness.Process) {
	h.t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		h.t.Errorf("exit status %d\n%s", code, p.Log.String())
	}
}

// Clients that connect and ask while the daemon is down are answered after its start, on TCP
// and on a Unix socket.
func TestConnectWhileDown(t *testing.T) {
	h := &holder{t: t, config: activatedUsers(t, "")}
	address := h.hold("generic", "tcp", "127.0.0.1:0")
	mux := h.hold("saslauthd", "unix", filepath.Join(t.TempDir(), "mux"))
	d := harness.Dialects()
	for range 3 { // the first are there before the first start
		tcp, unix := harness.Connect(t, address), harness.Connect(t, mux)
		fmt.Fprint(tcp, d["generic"].Yes)
		fmt.Fprint(unix, d["saslauthd"].Yes)
		p := h.start()
		harness.Say(t, tcp, "", d["generic"].IsYes)
		harness.Say(t, unix, "", d["saslauthd"].IsYes)
		h.stop(p)
	}
}

// Clients that come all the time do not notice that the daemon is restarted: each connection is
// answered, and rightly, also one that was accepted a moment before the stop.
func TestRestartLosesNobody(t *testing.T) {
	h := &holder{t: t, config: activatedUsers(t, "")}
	mux := h.hold("saslauthd", "unix", filepath.Join(t.TempDir(), "mux"))
	address := h.hold("ejabberd", "tcp", "127.0.0.1:0")
	asked, stop := attempts(t, 8, address, mux)
	for range 4 {
		p := h.start()
		before := asked.Load()
		harness.WaitFor(t, "clients are answered", func() bool { return asked.Load() > before+100 || t.Failed() })
		h.stop(p)
	}
	stop(func() { h.start() }) // for the connections that still wait
}

// attempts has clients ask all the time, half of them by the ejabberd protocol at address and half by
// saslauthd's at mux. stop waits until they have ended; what it is given happens when they are to end.
func attempts(t *testing.T, clients int, address, mux string) (asked *atomic.Int64, stop func(last func())) {
	d := harness.Dialects()
	var over atomic.Bool
	var wg sync.WaitGroup
	asked = new(atomic.Int64)
	for i := range clients {
		at, dialect := mux, d["saslauthd"]
		if i%2 == 0 {
			at, dialect = address, d["ejabberd"]
		}
		wg.Go(func() {
			for !over.Load() && !t.Failed() {
				attempt(t, at, dialect)
				asked.Add(1)
			}
		})
	}
	return asked, func(last func()) {
		over.Store(true)
		last()
		wg.Wait()
	}
}

// attempt connects, asks once, and must be answered yes.
func attempt(t *testing.T, address string, d harness.Dialect) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	if _, err := fmt.Fprint(c, d.Yes); err != nil {
		t.Errorf("question: %v", err)
		return
	}
	got := make([]byte, len(d.IsYes))
	for n := 0; n < len(got); {
		k, err := c.Read(got[n:])
		if n += k; err != nil {
			t.Errorf("answered %q, %v", got[:n], err)
			return
		}
	}
	if string(got) != d.IsYes {
		t.Errorf("answered %q", got)
	}
}
