package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ejabberdConfig takes the c2s port and the command of the external program.
const ejabberdConfig = `
hosts: [dom.example, other.example]
loglevel: info
listen:
  - port: %d
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls: false
    max_fsm_queue: 10000
auth_method: [external]
extauth_program: "%s"
extauth_pool_size: 2
auth_use_cache: false
modules: {}
`

// ejabberd is a running ejabberd without a node name: nothing but its c2s port listens.
type ejabberd struct {
	t    *testing.T
	port int
	dir  string
}

// startEjabberd starts Debian's ejabberd with an external program and ends it with the test.
func startEjabberd(t *testing.T, extauth string) *ejabberd {
	t.Helper()
	program(t, "ejabberdctl") // it brings what erl loads below
	erl := program(t, "erl")
	e := &ejabberd{t: t, dir: t.TempDir(), port: freePort(t)}
	config, log := filepath.Join(e.dir, "ejabberd.yml"), filepath.Join(e.dir, "ejabberd.log")
	if err := os.WriteFile(config, fmt.Appendf(nil, ejabberdConfig, e.port, extauth), 0o600); err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(e.dir, "spool")
	cmd := exec.Command(erl, "-noinput", "-mnesia", "dir", `"`+spool+`"`, "-s", "ejabberd")
	cmd.Env = append(os.Environ(), "EJABBERD_CONFIG_PATH="+config, "EJABBERD_LOG_PATH="+log,
		"ERL_LIBS=/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu", "ERL_CRASH_DUMP=/dev/null")
	var out outBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("ejabberd:\n%s\n%s", out.String(), readText(log))
		}
	})
	waitFor(t, "ejabberd accepts connections", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", e.port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return e
}

// freePort finds a port for a server that cannot be given port 0.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (e *ejabberd) want(user, domain, password, condition string) {
	e.t.Helper()
	if got, err := xmppLogin(e.port, user, domain, password); err != nil || got != condition {
		e.t.Errorf("%s@%s with %q: %s, %v; want %s", user, domain, password, got, err, condition)
	}
}

// The real ejabberd, with copies of `postern pipe` on two virtual hosts, before and after the
// daemon that they relay to is killed.
func TestRealEjabberd(t *testing.T) {
	passwords := []string{"a:b::c:", "  spaced  ", "päss€", strings.Repeat("x", 200)}
	config := configFile(t, t.TempDir(), usersConfig+"domain \"other.example\" { backends = [backend.users.local] }\n")
	for i, password := range append(passwords, "secret") {
		ok(t, password+"\n", "user", "add", fmt.Sprintf("joe%d@dom.example", i), "--config", config)
	}
	ok(t, "other\n", "user", "add", "joe4@other.example", "--config", config)
	s := serve(t, "--config", config)
	e := startEjabberd(t, binary+" pipe --protocol ejabberd --config "+config)
	for i, password := range passwords {
		e.want(fmt.Sprintf("joe%d", i), "dom.example", password, "success")
		e.want(fmt.Sprintf("joe%d", i), "dom.example", password+"x", "not-authorized")
	}
	e.want("joe4", "dom.example", "secret", "success")
	e.want("joe4", "other.example", "other", "success")
	e.want("joe4", "other.example", "secret", "not-authorized")

	logins := make(chan string, 200)
	begun := make(chan struct{})
	go func() {
		defer close(logins)
		for i := range cap(logins) {
			if i == 20 {
				close(begun)
			}
			got, err := xmppLogin(e.port, "joe4", "dom.example", "secret")
			logins <- fmt.Sprintf("%s %v", got, err)
		}
	}()
	<-begun
	_ = s.cmd.Process.Kill()
	<-s.ended
	s = serve(t, "--config", config)
	for got := range logins {
		if got != "success <nil>" {
			t.Errorf("a login while the daemon was restarted: %s", got)
		}
	}
	s.eventually("relays of both hosts", func() bool { return strings.Contains(s.log.String(), "front=pipe") })
}

// A configuration that is broken from the start: a program that ended at once would take
// external authentication down on all hosts for good (PROTOCOLS 3.1). Ours stays, and refuses.
func TestRealEjabberdBrokenConfiguration(t *testing.T) {
	e := startEjabberd(t, binary+" pipe --protocol ejabberd --config /nonexistent/config.hcl")
	for range 20 {
		got, err := xmppLogin(e.port, "joe", "dom.example", "secret")
		if err != nil || got == "success" {
			t.Fatalf("answered %s, %v", got, err)
		}
	}
	if log := readText(filepath.Join(e.dir, "ejabberd.log")); strings.Contains(log, "crashed") || strings.Contains(log, "shutdown") {
		t.Errorf("ejabberd lost its programs:\n%s", log)
	}
}
