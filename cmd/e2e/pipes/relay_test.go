package pipes

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// relayConfig is a daemon in front of a web application. Its line protocol has a longer deadline than
// a relay without the configuration knows of.
func relayConfig(t *testing.T, url string) string {
	t.Helper()
	return harness.ConfigFile(t, t.TempDir(), `
listen "ejabberd" { address = "127.0.0.1:0" }
listen "generic" {
  address  = "127.0.0.1:0"
  deadline = "20s"
}
backend "json" "app" { url = "`+url+`" }
domain "dom.example" {
  backends = [backend.json.app]
  cache { storage = "memory" }
}
`)
}

// With a daemon, all copies share its cache: the backend is asked once.
func TestRelaysShareTheDaemon(t *testing.T) {
	app := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))
	config := relayConfig(t, app.URL)
	s := harness.Serve(t, "--config", config)
	for i := range 3 {
		p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", config)
		p.Send(harness.Frame("auth:joe:dom.example:secret") + harness.Frame("nonsense") + harness.Frame("setpass:joe:dom.example:new"))
		p.Expect("\x00\x02\x00\x01\x00\x02\x00\x00\x00\x02\x00\x02")
		if rest, code := p.Finish(); rest != "" || code != 0 {
			t.Errorf("relay %d ended with %q, status %d", i, rest, code)
		}
	}
	if n := app.Asked.Load(); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
	s.Eventually("decisions of relays", func() bool {
		return strings.Count(s.Log.String(), "front=pipe op=auth") == 3
	})
}

// A question that meets the end of the daemon is asked again at its successor, and one that
// comes while there is none waits for it.
func TestRelayOutlivesTheDaemon(t *testing.T) {
	arrived, release := make(chan struct{}, 8), make(chan struct{})
	app := harness.NewWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, harness.JSONYes)
	})
	config := relayConfig(t, app.URL)
	s := harness.Serve(t, "--config", config)
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	<-arrived
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	p.Logged("the daemon is gone")
	p.Send(harness.Frame("auth:ann:dom.example:secret"))
	close(release)
	harness.Serve(t, "--config", config)
	p.Expect("\x00\x02\x00\x01\x00\x02\x00\x01")
	if n := app.Asked.Load(); n != 3 {
		t.Errorf("the backend was asked %d times, want 3: joe twice, ann once", n)
	}
	if rest, code := p.Finish(); rest != "" || code != 0 {
		t.Errorf("ended with %q, status %d", rest, code)
	}
}

// Where a daemon alone may serve, a relay without it answers "cannot tell" by its own deadline,
// stays, and works again when there is one.
func TestRelayWithoutDaemon(t *testing.T) {
	config := relayConfig(t, harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes)).URL)
	s := harness.Serve(t, "--config", config)
	p := harness.Start(t, "pipe", "--protocol", "generic", "--socket", filepath.Join(harness.DataDirOf(config), harness.RelaySocket))
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	begun := time.Now()
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("0\n")
	if took := time.Since(begun); took < 3*time.Second || took > 40*time.Second {
		t.Errorf("answered after %v; the deadline of the protocol is 4s", took)
	}
	harness.Serve(t, "--config", config)
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
	if rest, code := p.Finish(); rest != "" || code != 0 {
		t.Errorf("ended with %q, status %d", rest, code)
	}
}

// --socket needs neither a configuration nor a daemon to start with.
func TestRelayBySocket(t *testing.T) {
	config := relayConfig(t, harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes)).URL)
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--socket", filepath.Join(harness.DataDirOf(config), harness.RelaySocket), "--config", "/nonexistent")
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	harness.Serve(t, "--config", config)
	p.Expect("\x00\x02\x00\x01")
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// A listener for relays accepts another user's copies, which need not read the configuration.
func TestRelayListener(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "relay.sock")
	config := harness.ConfigFile(t, t.TempDir(), `
listen "relay" {
  address = "unix:`+socket+`"
  mode    = "0666"
}
backend "json" "app" { url = "`+harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes)).URL+`" }
domain "dom.example" { backends = [backend.json.app] }
`)
	harness.Serve(t, "--config", config)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("mode of the socket: %v, %v", info.Mode(), err)
	}
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--socket", socket)
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x01")
}

// The question whether a domain is served goes to the broker like all others: Postfix bounces mail
// to a domain of its own that was "not found".
func TestPipeAsksAboutDomains(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	input := harness.Netstring("domain dom.example") + harness.Netstring("domain DOM.example") + harness.Netstring("domain other.example")
	want := harness.Netstring("OK OK") + harness.Netstring("OK OK") + harness.Netstring("NOTFOUND ")
	for _, broker := range []string{"started by the pipe", "daemon"} {
		if broker == "daemon" {
			harness.Serve(t, "--config", config)
		}
		if r := harness.Command(t, input, "pipe", "--protocol", "socketmap", "--config", config); r.Out != want || r.Code != 0 {
			t.Errorf("%s: answered %q, exit status %d, want %q", broker, r.Out, r.Code, want)
		}
	}
}

// A copy that reads no configuration knows no default domain; its listener does.
func TestRelayListenerDefaultDomain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "relay.sock")
	config, data := harness.PipeUsers(t, `
listen "relay" {
  address        = "unix:`+socket+`"
  default_domain = "dom.example"
}
`)
	harness.Serve(t, "--config", config)
	for _, c := range []struct{ socket, secret, want string }{
		{socket, "secret", harness.Frame("OK success")},
		{socket, "wrong", harness.Frame("NO authentication failed")},
		{filepath.Join(data, harness.RelaySocket), "secret", harness.Frame("NO authentication failed")}, // of no domain
	} {
		r := harness.Command(t, harness.Fields("joe", c.secret, "imap", ""), "pipe", "--protocol", "saslauthd", "--socket", c.socket)
		if r.Out != c.want || r.Code != 0 {
			t.Errorf("%s at %s: answered %q, exit status %d, want %q", c.secret, c.socket, r.Out, r.Code, c.want)
		}
	}
}

// Installed side by side, `postern pipe` becomes postern-relay, which stays small and starts
// at once, alone and when ejabberd starts eight.
func TestRelayIsSmall(t *testing.T) {
	program, err := harness.Released()
	if err != nil {
		t.Fatal(err)
	}
	config := relayConfig(t, harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes)).URL)
	harness.ServeWith(t, program, "--config", config)
	for _, n := range []int{1, 8} {
		var took []time.Duration
		var kib int
		for range 15 {
			begun := time.Now()
			relays := make([]*harness.Process, n)
			for i := range relays {
				relays[i] = harness.StartProgram(t, program, nil, "pipe", "--protocol", "ejabberd", "--config", config)
				relays[i].Send(harness.Frame("auth:joe:dom.example:secret"))
			}
			for _, p := range relays {
				p.Expect("\x00\x02\x00\x01")
			}
			took, kib = append(took, time.Since(begun)), 0
			for _, p := range relays {
				kib += checkSmall(t, p)
				if rest, code := p.Finish(); rest != "" || code != 0 {
					t.Errorf("ended with %q, status %d", rest, code)
				}
			}
		}
		slices.Sort(took)
		t.Logf("%d at once: first answers after %v (median; %v at best, %v at worst), %d KiB together",
			n, took[len(took)/2], took[0], took[len(took)-1], kib)
		if took[len(took)/2] > time.Minute {
			t.Errorf("%d relays take %v to their first answers", n, took[len(took)/2])
		}
	}
}

// checkSmall returns what a relay takes of memory.
func checkSmall(t *testing.T, p *harness.Process) (kib int) {
	t.Helper()
	const most = 12 << 10 // KiB
	if kib = residentKiB(t, p.Cmd.Process.Pid); kib > most {
		t.Errorf("a relay takes %d KiB, want at most %d", kib, most)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.Cmd.Process.Pid))
	if err != nil || filepath.Base(exe) != "postern-relay" {
		t.Errorf("the relay runs %q, %v", exe, err)
	}
	return kib
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	_, rest, found := strings.Cut(harness.ReadText(fmt.Sprintf("/proc/%d/status", pid)), "VmRSS:")
	if !found {
		t.Fatal("no VmRSS")
	}
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// longestPath is how long the path of a Unix socket can be on Linux.
const longestPath = 107

// No program could connect to a socket in a data directory with a long path: the daemon says so, and
// pipes meet elsewhere.
func TestLongDataDirectory(t *testing.T) {
	base, err := os.MkdirTemp("", "long")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	for n := 94; n <= 100; n++ {
		dir := filepath.Join(base, strings.Repeat("d", n-len(base)-1))
		config := harness.ConfigFile(t, dir, harness.PipeConfig)
		harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
		if n <= longestPath-len("/control.sock") {
			s := harness.Serve(t, "--config", config)
			harness.OK(t, "", "reload", "--config", config)
			s.Stop(syscall.SIGTERM)
		} else if r := harness.Command(t, "", "serve", "--config", config); r.Code != 1 || !strings.Contains(r.Err, "too long for a socket: choose a shorter data_dir") {
			t.Errorf("%d bytes: exit status %d\n%s", n, r.Code, r.Err)
		}
		if r := harness.Command(t, "auth:joe:dom.example:secret\n", "pipe", "--protocol", "generic", "--config", config); r.Out != "1\n" || r.Code != 0 {
			t.Errorf("a pipe with %d bytes: answered %q, exit status %d\n%s", n, r.Out, r.Code, r.Err)
		}
	}
}
