package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// relayConfig is a daemon in front of a web application.
func relayConfig(t *testing.T, url string) string {
	t.Helper()
	return configFile(t, t.TempDir(), `
listen "ejabberd" { address = "127.0.0.1:0" }
listen "generic" {
  address  = "127.0.0.1:0"
  deadline = "1s"
}
backend "json" "app" { url = "`+url+`" }
domain "dom.example" {
  backends = [backend.json.app]
  cache { storage = "memory" }
}
`)
}

// Names of files in a data directory.
const (
	controlFile = "control.sock" // where the commands reach the daemon
	relayFile   = "relay.sock"   // where pipes reach the daemon
	lockFile    = "owner.lock"   // held by the process that owns the directory; has its number
)

// hasOwner reports whether a process owns a data directory.
func hasOwner(dir string) bool {
	lock, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// dataDirOf is the data directory of a configuration that configFile wrote.
func dataDirOf(config string) string {
	_, rest, _ := strings.Cut(readText(config), `data_dir = "`)
	dir, _, _ := strings.Cut(rest, `"`)
	return dir
}

// With a daemon, all copies share its cache: the backend is asked once.
func TestRelaysShareTheDaemon(t *testing.T) {
	app := newWebApp(t, always(http.StatusOK, jsonYes))
	config := relayConfig(t, app.URL)
	s := serve(t, "--config", config)
	for i := range 3 {
		p := start(t, "pipe", "--protocol", "ejabberd", "--config", config)
		p.send(frame("auth:joe:dom.example:secret") + frame("nonsense") + frame("setpass:joe:dom.example:new"))
		p.expect("\x00\x02\x00\x01\x00\x02\x00\x00\x00\x02\x00\x02")
		if rest, code := p.finish(); rest != "" || code != 0 {
			t.Errorf("relay %d ended with %q, status %d", i, rest, code)
		}
	}
	if n := app.asked.Load(); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
	s.eventually("decisions of relays", func() bool {
		return strings.Count(s.log.String(), "front=pipe op=auth") == 3
	})
}

// A question that meets the end of the daemon is asked again at its successor, and one that
// comes while there is none waits for it.
func TestRelayOutlivesTheDaemon(t *testing.T) {
	arrived, release := make(chan struct{}, 8), make(chan struct{})
	app := newWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, jsonYes)
	})
	config := relayConfig(t, app.URL)
	s := serve(t, "--config", config)
	p := start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.send(frame("auth:joe:dom.example:secret"))
	<-arrived
	_ = s.cmd.Process.Kill()
	<-s.ended
	p.logged("the daemon is gone")
	p.send(frame("auth:ann:dom.example:secret"))
	close(release)
	serve(t, "--config", config)
	p.expect("\x00\x02\x00\x01\x00\x02\x00\x01")
	if n := app.asked.Load(); n != 3 {
		t.Errorf("the backend was asked %d times, want 3: joe twice, ann once", n)
	}
	if rest, code := p.finish(); rest != "" || code != 0 {
		t.Errorf("ended with %q, status %d", rest, code)
	}
}

// Where a daemon alone may serve, a relay without it answers "cannot tell" by its own deadline,
// stays, and is of use again when there is one.
func TestRelayWithoutDaemon(t *testing.T) {
	config := relayConfig(t, newWebApp(t, always(http.StatusOK, jsonYes)).URL)
	s := serve(t, "--config", config)
	p := start(t, "pipe", "--protocol", "generic", "--socket", filepath.Join(dataDirOf(config), relayFile))
	p.send("auth:joe:dom.example:secret\n")
	p.expect("1\n")
	_ = s.cmd.Process.Kill()
	<-s.ended
	begun := time.Now()
	p.send("auth:joe:dom.example:secret\n")
	p.expect("0\n")
	if took := time.Since(begun); took < 3*time.Second || took > 15*time.Second {
		t.Errorf("answered after %v; the deadline of the protocol is 4s", took)
	}
	serve(t, "--config", config)
	p.send("auth:joe:dom.example:secret\n")
	p.expect("1\n")
	if rest, code := p.finish(); rest != "" || code != 0 {
		t.Errorf("ended with %q, status %d", rest, code)
	}
}

// --socket needs neither a configuration nor a daemon to start with.
func TestRelayBySocket(t *testing.T) {
	config := relayConfig(t, newWebApp(t, always(http.StatusOK, jsonYes)).URL)
	p := start(t, "pipe", "--protocol", "ejabberd", "--socket", filepath.Join(dataDirOf(config), relayFile), "--config", "/nonexistent")
	p.send(frame("auth:joe:dom.example:secret"))
	serve(t, "--config", config)
	p.expect("\x00\x02\x00\x01")
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// A listener for relays lets another user's copies in, without a look at the configuration.
func TestRelayListener(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "relay.sock")
	config := configFile(t, t.TempDir(), `
listen "relay" {
  address = "unix:`+socket+`"
  mode    = "0666"
}
backend "json" "app" { url = "`+newWebApp(t, always(http.StatusOK, jsonYes)).URL+`" }
domain "dom.example" { backends = [backend.json.app] }
`)
	serve(t, "--config", config)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("mode of the socket: %v, %v", info.Mode(), err)
	}
	p := start(t, "pipe", "--protocol", "ejabberd", "--socket", socket)
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x01")
}

// Whether a domain is served is asked of the broker as all else is: Postfix bounces mail to a
// domain of its own that was "not found".
func TestPipeAsksAboutDomains(t *testing.T) {
	config, _ := pipeUsers(t, "")
	input := netstring("domain dom.example") + netstring("domain DOM.example") + netstring("domain other.example")
	want := netstring("OK OK") + netstring("OK OK") + netstring("NOTFOUND ")
	for _, broker := range []string{"started by the pipe", "daemon"} {
		if broker == "daemon" {
			serve(t, "--config", config)
		}
		if r := command(t, input, "pipe", "--protocol", "socketmap", "--config", config); r.out != want || r.code != 0 {
			t.Errorf("%s: answered %q, exit status %d, want %q", broker, r.out, r.code, want)
		}
	}
}

// A copy that reads no configuration knows no default domain; its listener does.
func TestRelayListenerDefaultDomain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "relay.sock")
	config, data := pipeUsers(t, `
listen "relay" {
  address        = "unix:`+socket+`"
  default_domain = "dom.example"
}
`)
	serve(t, "--config", config)
	for _, c := range []struct{ socket, secret, want string }{
		{socket, "secret", frame("OK success")},
		{socket, "wrong", frame("NO authentication failed")},
		{filepath.Join(data, relayFile), "secret", frame("NO authentication failed")}, // of no domain
	} {
		r := command(t, fields("joe", c.secret, "imap", ""), "pipe", "--protocol", "saslauthd", "--socket", c.socket)
		if r.out != c.want || r.code != 0 {
			t.Errorf("%s at %s: answered %q, exit status %d, want %q", c.secret, c.socket, r.out, r.code, c.want)
		}
	}
}

// released builds postern and postern-relay as they are installed, once, and returns postern's
// path.
var released = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(filepath.Dir(binary), "released")
	build := exec.Command("go", "build", "-o", dir+"/", "postern/cmd/postern", "postern/cmd/postern-relay")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(dir, "postern"), nil
})

// Installed side by side, `postern pipe` becomes postern-relay, which stays small and starts
// at once, alone and when ejabberd starts eight.
func TestRelayIsSmall(t *testing.T) {
	program, err := released()
	if err != nil {
		t.Fatal(err)
	}
	config := relayConfig(t, newWebApp(t, always(http.StatusOK, jsonYes)).URL)
	serveWith(t, program, "--config", config)
	for _, n := range []int{1, 8} {
		var took []time.Duration
		var kib int
		for range 15 {
			begun := time.Now()
			relays := make([]*process, n)
			for i := range relays {
				relays[i] = startProgram(t, program, nil, "pipe", "--protocol", "ejabberd", "--config", config)
				relays[i].send(frame("auth:joe:dom.example:secret"))
			}
			for _, p := range relays {
				p.expect("\x00\x02\x00\x01")
			}
			took, kib = append(took, time.Since(begun)), 0
			for _, p := range relays {
				kib += checkSmall(t, p)
				if rest, code := p.finish(); rest != "" || code != 0 {
					t.Errorf("ended with %q, status %d", rest, code)
				}
			}
		}
		slices.Sort(took)
		t.Logf("%d at once: first answers after %v (median; %v at best, %v at worst), %d KiB together",
			n, took[len(took)/2], took[0], took[len(took)-1], kib)
		if took[len(took)/2] > 5*time.Second {
			t.Errorf("%d relays take %v to their first answers", n, took[len(took)/2])
		}
	}
}

// checkSmall returns what a relay takes of memory.
func checkSmall(t *testing.T, p *process) (kib int) {
	t.Helper()
	const most = 12 << 10 // KiB
	if kib = residentKiB(t, p.cmd.Process.Pid); kib > most {
		t.Errorf("a relay takes %d KiB, want at most %d", kib, most)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.cmd.Process.Pid))
	if err != nil || filepath.Base(exe) != "postern-relay" {
		t.Errorf("the relay runs %q, %v", exe, err)
	}
	return kib
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	_, rest, found := strings.Cut(readText(fmt.Sprintf("/proc/%d/status", pid)), "VmRSS:")
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
		config := configFile(t, dir, pipeConfig)
		ok(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
		if n <= longestPath-len("/control.sock") {
			s := serve(t, "--config", config)
			ok(t, "", "reload", "--config", config)
			s.stop(syscall.SIGTERM)
		} else if r := command(t, "", "serve", "--config", config); r.code != 1 || !strings.Contains(r.err, "too long for a socket: choose a shorter data_dir") {
			t.Errorf("%d bytes: exit status %d\n%s", n, r.code, r.err)
		}
		if r := command(t, "auth:joe:dom.example:secret\n", "pipe", "--protocol", "generic", "--config", config); r.out != "1\n" || r.code != 0 {
			t.Errorf("a pipe with %d bytes: answered %q, exit status %d\n%s", n, r.out, r.code, r.err)
		}
	}
}
