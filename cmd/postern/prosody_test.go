package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// prosodyConfig takes the data directory, the folder of our module, the c2s port and postern's
// port.
const prosodyConfig = `
data_path = "%[1]s"
plugin_paths = { "%[2]s" }
modules_enabled = { "saslauth" }
modules_disabled = { "s2s", "tls", "offline", "posix" }
c2s_ports = { %[3]d }
c2s_interfaces = { "127.0.0.1" }
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
run_as_root = true
log = { info = "%[1]s/prosody.log" }
authentication = "postern"
postern_port = %[4]s
VirtualHost "dom.example"
VirtualHost "slow.example"
`

// startProsody starts Debian's Prosody with mod_auth_postern and ends it with the test.
func startProsody(t *testing.T, posternAddress string) (port int) {
	t.Helper()
	prosody, dir := program(t, "prosody"), t.TempDir()
	modules, err := filepath.Abs("../../scripts/prosody")
	if err != nil {
		t.Fatal(err)
	}
	_, posternPort, err := net.SplitHostPort(posternAddress)
	if err != nil {
		t.Fatal(err)
	}
	port = freePort(t)
	config := filepath.Join(dir, "prosody.cfg.lua")
	if err := os.WriteFile(config, fmt.Appendf(nil, prosodyConfig, dir, modules, port, posternPort), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(prosody, "-F", "--config", config)
	var out outBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prosody:\n%s\n%s", out.String(), readText(filepath.Join(dir, "prosody.log")))
		}
	})
	waitFor(t, "prosody accepts connections", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return port
}

func wantLogin(t *testing.T, port int, user, password, condition string) {
	t.Helper()
	if got, err := xmppLogin(port, user, "dom.example", password); err != nil || got != condition {
		t.Errorf("%s with %q: %s, %v; want %s", user, password, got, err, condition)
	}
}

// The real Prosody with our module: right and wrong passwords (Prosody itself takes at most 1023
// bytes), a daemon that goes and comes back, and "cannot tell" as the protocol's own temporary
// failure.
func TestRealProsody(t *testing.T) {
	s, config := usersServer(t)
	for i, password := range []string{"a:b::c:", "päss€", strings.Repeat("x", 1000)} {
		ok(t, password+"\n", "user", "add", fmt.Sprintf("joe%d@dom.example", i), "--config", config)
	}
	address := s.address("ejabberd")
	port := startProsody(t, address)
	waitFor(t, "prosody is connected", func() bool {
		got, err := xmppLogin(port, "joe", "dom.example", "secret")
		return err == nil && got == "success"
	})
	wantLogin(t, port, "joe", "wrong", "not-authorized")
	wantLogin(t, port, "nobody", "secret", "not-authorized")
	wantLogin(t, port, "joe0", "a:b::c:", "success")
	wantLogin(t, port, "joe1", "päss€", "success")
	wantLogin(t, port, "joe2", strings.Repeat("x", 1000), "success")
	_ = s.cmd.Process.Kill()
	<-s.ended
	wantLogin(t, port, "joe", "secret", "temporary-auth-failure")
	text := strings.Replace(readText(config), `listen "ejabberd" { address = "127.0.0.1:0" }`,
		`listen "ejabberd" { address = "`+address+`" }`, 1)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, "--config", config)
	waitFor(t, "prosody is connected again", func() bool {
		got, err := xmppLogin(port, "joe", "dom.example", "secret")
		return err == nil && got == "success"
	})
}

// While a hundred logins wait for a slow backend, Prosody serves others.
func TestRealProsodyIsNotBlocked(t *testing.T) {
	const waiting = 100
	release := make(chan struct{})
	var arrived sync.WaitGroup
	arrived.Add(waiting)
	app := newWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived.Done()
		<-release
		_, _ = w.Write([]byte(jsonYes))
	})
	s := serve(t, "--config", configFile(t, t.TempDir(), usersConfig+`
backend "json" "app" {
  url   = "`+app.URL+`"
  slots = 128
}
domain "slow.example" { backends = [backend.json.app] }
`))
	port := startProsody(t, s.address("ejabberd"))
	var done sync.WaitGroup
	for i := range waiting {
		done.Add(1)
		go func() {
			defer done.Done()
			if got, err := xmppLogin(port, fmt.Sprintf("user%d", i), "slow.example", "secret"); err != nil || got != "success" {
				t.Errorf("slow login: %s, %v", got, err)
			}
		}()
	}
	arrived.Wait()
	begun := time.Now()
	wantLogin(t, port, "joe", "secret", "not-authorized") // another host's user, answered at once
	t.Logf("a login beside %d that wait took %v", waiting, time.Since(begun))
	close(release)
	done.Wait()
}
