package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
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
	config = configFile(t, t.TempDir(), activated+more)
	ok(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	return config
}

// freeAddress is an address on which nobody listened a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
}

// socketActivate runs a command under systemd-socket-activate, which starts it at the first
// connection.
func socketActivate(t *testing.T, names string, addresses []string, args ...string) *process {
	t.Helper()
	flags := []string{"-E", "GORACE", "--fdname=" + names}
	for _, a := range addresses {
		flags = append(flags, "-l", a)
	}
	p := &process{t: t, ended: make(chan struct{})}
	p.cmd = exec.Command(program(t, "systemd-socket-activate"), append(append(flags, binary), args...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.run()
	for _, a := range addresses {
		p.logged("Listening on " + a)
	}
	return p
}

// The real systemd passes sockets: by the protocols' names and by xcauth's, without a listen
// block and with one, and over TCP and a Unix socket.
func TestSocketActivation(t *testing.T) {
	d := dialects()
	mux := filepath.Join(t.TempDir(), "mux")
	a := []string{freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t), mux, freeAddress(t)}
	config := activatedUsers(t, "listen \"late\" {\n  protocol = \"socketmap\"\n  address = \"systemd:tables\"\n}\n")
	p := socketActivate(t, "ejabberd:prosody:postfix:tables:saslauthd:odd", a, "serve", "--config", config)
	before, err := os.Lstat(mux)
	if err != nil {
		t.Fatal(err)
	}
	for i, protocol := range []string{"ejabberd", "generic", "tcp_table", "socketmap", "saslauthd"} {
		if got := exchange(t, a[i], d[protocol].yes); got != d[protocol].isYes {
			t.Errorf("%s answered %q\n%s", protocol, got, p.log.String())
		}
	}
	for _, line := range []string{
		"msg=listening listener=prosody protocol=generic activated=true address=" + a[1],
		"msg=listening listener=late protocol=socketmap activated=true address=" + a[3],
		"name=odd address=" + a[5], "msg=ready",
	} {
		p.logged(line)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if after, err := os.Lstat(mux); err != nil || after.Mode() != before.Mode() {
		t.Errorf("the end of the daemon changed systemd's socket file: %v, %v", after, err)
	}
}

// A listener at a socket that was not passed is an error that names those that were.
func TestSocketMissing(t *testing.T) {
	config := activatedUsers(t, "listen \"generic\" { address = \"systemd:front\" }\n")
	r := command(t, "", "serve", "--config", config)
	if r.code != 1 || !strings.Contains(r.err, `systemd passed no socket named "front"`) || !strings.Contains(r.err, "started by hand") {
		t.Errorf("by hand: exit status %d, %q", r.code, r.err)
	}
	address := freeAddress(t)
	p := socketActivate(t, "prosody", []string{address}, "serve", "--config", config)
	c := connect(t, address)
	p.logged(`passed were "prosody" at ` + address)
	if code := p.exit(); code != 1 {
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
func (h *holder) start(args ...string) *process {
	h.t.Helper()
	const script = `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$@"`
	p := &process{t: h.t, ended: make(chan struct{})}
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", script, "sh", binary, "serve", "--config", h.config}, args...)...)
	p.cmd.Env = append(os.Environ(), h.env...)
	if len(h.files) > 0 {
		p.cmd.Env = append(p.cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(h.files)), "LISTEN_FDNAMES="+strings.Join(h.names, ":"))
	}
	p.cmd.ExtraFiles, p.cmd.Stdout, p.cmd.Stderr = h.files, &p.log, &p.log
	p.run()
	return p
}

func (h *holder) stop(p *process) {
	h.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		h.t.Errorf("exit status %d\n%s", code, p.log.String())
	}
}

// Clients that connect and ask while the daemon is down are answered after its start, on TCP
// and on a Unix socket.
func TestConnectWhileDown(t *testing.T) {
	h := &holder{t: t, config: activatedUsers(t, "")}
	address := h.hold("generic", "tcp", "127.0.0.1:0")
	mux := h.hold("saslauthd", "unix", filepath.Join(t.TempDir(), "mux"))
	d := dialects()
	for range 3 { // the first are there before the first start
		tcp, unix := connect(t, address), connect(t, mux)
		fmt.Fprint(tcp, d["generic"].yes)
		fmt.Fprint(unix, d["saslauthd"].yes)
		p := h.start()
		say(t, tcp, "", d["generic"].isYes)
		say(t, unix, "", d["saslauthd"].isYes)
		h.stop(p)
	}
}

// Clients that come all the time do not notice that the daemon is restarted: whoever connects
// is answered, and truly, also those whose connection was accepted a moment before the stop.
func TestRestartLosesNobody(t *testing.T) {
	h := &holder{t: t, config: activatedUsers(t, "")}
	mux := h.hold("saslauthd", "unix", filepath.Join(t.TempDir(), "mux"))
	address := h.hold("ejabberd", "tcp", "127.0.0.1:0")
	d := dialects()
	var over atomic.Bool
	var asked atomic.Int64
	var clients sync.WaitGroup
	for i := range 8 {
		at, dialect := mux, d["saslauthd"]
		if i%2 == 0 {
			at, dialect = address, d["ejabberd"]
		}
		clients.Add(1)
		go func() {
			defer clients.Done()
			for !over.Load() && !t.Failed() {
				attempt(t, at, dialect)
				asked.Add(1)
			}
		}()
	}
	for range 4 {
		p := h.start()
		before := asked.Load()
		waitFor(t, "clients are answered", func() bool { return asked.Load() > before+100 || t.Failed() })
		h.stop(p)
	}
	over.Store(true)
	h.start() // for those who still wait
	clients.Wait()
}

// attempt connects, asks once, and must be told yes.
func attempt(t *testing.T, address string, d dialect) {
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
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprint(c, d.yes); err != nil {
		t.Errorf("question: %v", err)
		return
	}
	got := make([]byte, len(d.isYes))
	for n := 0; n < len(got); {
		k, err := c.Read(got[n:])
		if n += k; err != nil {
			t.Errorf("answered %q, %v", got[:n], err)
			return
		}
	}
	if string(got) != d.isYes {
		t.Errorf("answered %q", got)
	}
}
