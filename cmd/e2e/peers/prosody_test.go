package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// prosodyConfig takes the data directory, the folders of our module and of the tests' own, the
// port of the clients, and the options of the module under test.
const prosodyConfig = `
data_path = %[1]q
plugin_paths = { %[2]q; %[3]q }
modules_enabled = { "saslauth"; "ping"; "register_ibr"; "user_account_management"; "admin_shell" }
modules_disabled = { "s2s"; "tls"; "offline" }
allow_registration = true
registration_throttle_max = 1000
c2s_ports = { %[4]d }
c2s_interfaces = { "127.0.0.1" }
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
run_as_root = true
pidfile = %[1]q .. "/prosody.pid"
log = { info = %[1]q .. "/prosody.log" }
%[5]s
VirtualHost "dom.example"
VirtualHost "slow.example"
`

// prosody is a running Prosody.
type prosody struct {
	harness.Release
	t      *testing.T
	cmd    *exec.Cmd
	port   int // of the clients
	config string
	log    string // file
	ended  chan struct{}
}

// startProsody starts a release's Prosody with options in its configuration, and ends it with the
// test.
func startProsody(t *testing.T, r harness.Release, options string) *prosody {
	t.Helper()
	return startProsodyIn(t, r, shortDir(t), options)
}

// startProsodyIn does the same with a directory of which the options may know.
func startProsodyIn(t *testing.T, r harness.Release, dir, options string) *prosody {
	t.Helper()
	p := &prosody{Release: r, t: t, port: harness.FreePort(t), config: filepath.Join(dir, "prosody.cfg.lua"),
		log: filepath.Join(dir, "prosody.log")}
	text := fmt.Sprintf(prosodyConfig, dir, absolute(t, "../../../scripts/prosody"), absolute(t, "testdata/prosody"), p.port, options)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	return p
}

// start runs Prosody until the test ends, and waits until clients can connect.
func (p *prosody) start() {
	p.t.Helper()
	cmd, ended := p.Command(p.Program(p.t, "prosody"), "-F", "--config", p.config), make(chan struct{})
	p.cmd, p.ended = cmd, ended
	var out harness.OutBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if p.t.Failed() {
			p.t.Logf("prosody:\n%s\n%s", out.String(), harness.ReadText(p.log))
		}
	})
	harness.WaitFor(p.t, "prosody accepts connections", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// again stops Prosody and starts it again.
func (p *prosody) again() {
	p.t.Helper()
	p.stop()
	p.start()
}

// absolute is the path of a file in the repository, for servers that run elsewhere.
func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// shortDir is a directory for sockets: their paths are limited to 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// posternAt are the module's options for a daemon that listens at address.
func posternAt(address, more string) string {
	return fmt.Sprintf("authentication = \"postern\"\npostern_address = %q\n%s\n", address, more)
}

func (p *prosody) wantLogin(user, password, condition string) {
	p.t.Helper()
	if got, err := xmppLogin(p.port, user, "dom.example", password); err != nil || got != condition {
		p.t.Errorf("%s with %.60q: %s, %v; want %s", user, password, got, err, condition)
	}
}

// eventually waits until joe can log in.
func (p *prosody) eventually(password string) {
	p.t.Helper()
	harness.WaitFor(p.t, "joe can log in", func() bool {
		got, err := xmppLogin(p.port, "joe", "dom.example", password)
		return err == nil && got == "success"
	})
}

// stop ends Prosody as an init system does.
func (p *prosody) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	harness.WaitFor(p.t, "prosody ends", func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	})
}

// overUnix is a configuration with a Unix socket as the listener for Prosody, and its address.
func overUnix(t *testing.T) (config, address string) {
	t.Helper()
	address = filepath.Join(shortDir(t), "postern.sock")
	return harness.ConfigFile(t, t.TempDir(), harness.EjabberdWith(harness.UsersConfig, `address = "unix:`+address+`"`)), address
}

// The real Prosody with our module, over both kinds of socket and all of its event loops: passwords
// with any byte that XMPP permits, of any length, and none that is cut or split.
func TestRealProsody(t *testing.T) { harness.EachRelease(t, prosodyLogins) }

func prosodyLogins(t *testing.T, r harness.Release) {
	long := strings.Repeat("eyJhbGciOiJIUzI1NiJ9.", 238) + "xy" // 5000 bytes, as of a token
	accounts := map[string]string{"joe": "secret", "joe0": "a:b::c:", "joe1": "päss€", "joe2": long, "joe3": "sec ret "}
	for name, loop := range map[string]string{"tcp": "epoll", "unix": "epoll", "tcp, select": "select", "unix, select": "select", "tcp, libevent": "event"} {
		t.Run(name, func(t *testing.T) {
			config, address := overUnix(t)
			if strings.HasPrefix(name, "tcp") {
				config = harness.ConfigFile(t, t.TempDir(), harness.UsersConfig)
			}
			for user, password := range accounts {
				harness.OK(t, password+"\n", "user", "add", user+"@dom.example", "--config", config)
			}
			s := harness.Serve(t, "--config", config)
			if strings.HasPrefix(name, "tcp") {
				address = strings.Replace(s.Address("ejabberd"), "127.0.0.1", "localhost", 1)
			}
			p := startProsody(t, r, posternAt(address, "network_backend = \""+loop+"\""))
			for user, password := range accounts {
				p.wantLogin(user, password, "success")
				p.wantLogin(user, password+"x", "not-authorized")
			}
			p.wantLogin("JOE", "secret", "success")
			p.wantLogin("nobody", "secret", "not-authorized")
			p.wantLogin("joe2", long[:4999], "not-authorized")
			for _, password := range []string{"", "secret\n", "secret\nauth:joe:dom.example:secret", "secret\x00", "secret\x00more", "sec\rret", "secret\xff"} {
				p.wantLogin("joe", password, "malformed-request")
			}
			p.wantLogin("jo:e", "secret", "malformed-request")
			if loop == "event" { // prosodyctl turns the loop itself
				p.control(t)
			}
		})
	}
}
