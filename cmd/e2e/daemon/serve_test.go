package daemon

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// The run command of the README: every listener of the built-in configuration answers, and
// the lines that are printed to be pasted say yes.
func TestEmbeddedDefault(t *testing.T) {
	work := t.TempDir()
	dir := filepath.Join(work, "run")
	serve := exec.Command(harness.Binary, "serve", "--embedded", "--data-dir", "run")
	serve.Dir = work
	s := harness.ServeCommand(t, serve)
	password, err := os.ReadFile(filepath.Join(dir, "demo.password"))
	if err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(filepath.Join(dir, "demo.password"))
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode of demo.password is %v", info.Mode())
	}
	if strings.Contains(s.Out.String()+s.Log.String(), string(password)) {
		t.Error("the password stands in the output")
	}
	pw := string(password)
	// The first login costs a password hash that is dear on purpose: on a busy machine longer than
	// the generic protocol waits. After it the cache answers.
	harness.WaitFor(t, "a first login", func() bool {
		return harness.Command(t, pw, "test", "auth", "demo@localhost", "--embedded", "--data-dir", dir).Code == 0
	})
	for name, c := range map[string]struct{ address, input, want string }{
		"ejabberd":       {"127.0.0.1:23662", harness.Frame("auth:demo:localhost:" + pw), "\x00\x02\x00\x01"},
		"generic":        {"127.0.0.1:23663", "auth:demo:localhost:" + pw + "\nauth:demo:localhost:x\n", "1\n0\n"},
		"tcp_table":      {"127.0.0.1:23665", "get demo@localhost\nget nobody@localhost\n", "200 OK\n500 "},
		"socketmap":      {"127.0.0.1:23667", "22:mailbox demo@localhost,24:mailbox nobody@localhost,", "5:OK OK,9:NOTFOUND ,"},
		"saslauthd":      {"127.0.0.1:23666", harness.Fields("demo", pw, "imap", ""), "\x00"},
		"dovecot":        {"127.0.0.1:23668", "VERSION\t1\t0\nCPID\t1\n", "VERSION\t1\t4\nMECH\tPLAIN"},
		"dovecot_userdb": {filepath.Join(dir, "userdb.sock"), "VERSION\t1\t0\nUSER\t1\tdemo\tservice=lmtp\n", "VERSION\t1\t"},
		"http":           {filepath.Join(dir, "http.sock"), "GET /basic HTTP/1.0\r\nAuthorization: Basic " + harness.Base64("demo:"+pw) + "\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
		"saslauthd-unix": {filepath.Join(dir, "saslauthd.sock"), harness.Fields("demo", pw, "imap", ""), "\x00"},
	} {
		got := harness.Exchange(t, c.address, c.input)
		if !strings.HasPrefix(got, c.want) || strings.HasPrefix(name, "saslauthd") && !strings.HasPrefix(got[2:], "OK") {
			t.Errorf("%s answered %q, want %q", name, got, c.want)
		}
	}
	for _, protocol := range []string{"ejabberd", "generic", "tcp_table", "socketmap", "saslauthd", "dovecot", "dovecot_userdb", "http", "relay"} {
		if !strings.Contains(s.Out.String(), "\n  "+protocol+" ") {
			t.Errorf("%s is not listed in %q", protocol, s.Out.String())
		}
	}
	paste := regexp.MustCompile(`(?s)in this directory:\n(  \S+ test auth demo@localhost[^\n]*)\nor as a server.*0 is no\):\n(.*)$`).FindStringSubmatch(s.Out.String())
	if paste == nil {
		t.Fatalf("no lines to paste in %q", s.Out.String())
	}
	if _, err := os.Stat("/etc/postern/config.hcl"); err != nil && strings.Contains(paste[1], "--") {
		t.Errorf("flags in %q, though this machine has no configuration", paste[1])
	}
	for i, want := range []string{"yes: allow, from ", "1\n"} {
		cmd := exec.Command("sh", "-c", paste[i+1])
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s printed %q, %v", paste[i+1], out, err)
		}
	}
	if code := s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
	// A second start keeps the account.
	s = harness.Serve(t, "--embedded", "--data-dir", dir)
	if again, _ := os.ReadFile(filepath.Join(dir, "demo.password")); string(again) != pw {
		t.Error("the demo account was made anew")
	}
	s.Stop(syscall.SIGTERM)
}

// Real clients: Postfix's postmap and Cyrus SASL's testsaslauthd.
func TestRealClients(t *testing.T) {
	postmap, testsaslauthd := harness.Program(t, "postmap"), harness.Program(t, "testsaslauthd")
	s, config := harness.UsersServer(t)
	harness.OK(t, "secret\n", "user", "add", "josé@dom.example", "--config", config)
	table, socketmap := "tcp:"+s.Address("tcp_table"), "socketmap:inet:"+s.Address("socketmap")+":"
	// postmap wants a configuration, however empty.
	conf := t.TempDir()
	if err := os.WriteFile(filepath.Join(conf, "main.cf"), []byte("compatibility_level = 3.6\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{
		"joe@dom.example": 0, "nobody@dom.example": 1, "josé@dom.example": 0, `"a b"@dom.example`: 1,
		"joe@unknown.example": 1, "dom.example": 1,
	} {
		for _, table := range []string{table, socketmap + "mailbox"} {
			r := harness.RunCommand(t, "", postmap, "-c", conf, "-q", key, table)
			if r.Code != want || want == 0 && strings.TrimSpace(r.Out) != "OK" {
				t.Errorf("postmap -q %q %s: exit status %d, %q %q", key, table, r.Code, r.Out, r.Err)
			}
		}
	}
	for domain, want := range map[string]int{"dom.example": 0, "DOM.Example": 0, "unknown.example": 1, "a/b": 1} {
		if r := harness.RunCommand(t, "", postmap, "-c", conf, "-q", domain, socketmap+"domain"); r.Code != want {
			t.Errorf("postmap -q %q: exit status %d, %q %q", domain, r.Code, r.Out, r.Err)
		}
	}
	if r := harness.RunCommand(t, "", postmap, "-c", conf, "-q", "x", socketmap+"aliases"); r.Code != 1 || r.Err == "" {
		t.Errorf("a map that is not served: exit status %d, %q", r.Code, r.Err)
	}
	for _, c := range []struct {
		user, realm, password string
		want                  int
	}{
		{"joe", "dom.example", "secret", 0},
		{"joe", "", "secret", 0}, // the listener's default domain
		{"joe", "dom.example", "wrong", 255},
		{"joe", "unknown.example", "secret", 255},
		{"josé", "dom.example", "secret", 0},
	} {
		args := []string{"-f", s.Address("saslauthd"), "-u", c.user, "-p", c.password}
		if c.realm != "" {
			args = append(args, "-r", c.realm)
		}
		r := harness.RunCommand(t, "", testsaslauthd, args...)
		if r.Code != c.want || strings.Contains(r.Out, "OK") != (c.want == 0) {
			t.Errorf("testsaslauthd %v: exit status %d, %q %q", args, r.Code, r.Out, r.Err)
		}
	}
}

// SIGTERM during load: what was asked is answered, and answered right or "cannot tell"; the
// process ends with status 0.
func TestTermUnderLoad(t *testing.T) {
	s, _ := harness.UsersServer(t)
	address := s.Address("generic")
	const conns = 16
	var wg sync.WaitGroup
	warm := make(chan struct{}, conns)
	for i := range conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			lockstep(t, address, i, warm)
		}()
	}
	for range conns {
		<-warm
	}
	if code := s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
	wg.Wait()
	if !strings.Contains(s.Log.String(), "msg=stopped clean=true") {
		t.Error("the daemon did not stop cleanly")
	}
}

// lockstep asks and waits for the answer, again and again, until the server closes. The
// server may close between an answer and the next question, but not while it owes an answer
// that it has begun to work on.
func lockstep(t *testing.T, address string, i int, warm chan<- struct{}) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	in := bufio.NewReader(c)
	for n := 0; ; n++ {
		password, want := "secret", "1\n"
		if n%2 == 1 {
			password, want = fmt.Sprintf("wrong%d", n), "0\n"
		}
		if n == 20 {
			warm <- struct{}{}
		}
		if _, err := fmt.Fprintf(c, "auth:joe:dom.example:%s\n", password); err != nil {
			return
		}
		got, err := in.ReadString('\n')
		if err != nil {
			if err != io.EOF || got != "" {
				t.Errorf("connection %d, request %d: %q, %v", i, n, got, err)
			}
			return
		}
		if got != want && got != "0\n" { // 0 is also the line protocol's "cannot tell"
			t.Errorf("connection %d, request %d: answered %q, want %q", i, n, got, want)
		}
	}
}

// Requests that wait for a slow backend when SIGTERM comes are answered.
func TestTermAnswersWhatWaits(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 8)
	backend := jsonServer(t, func(user, password string) bool {
		arrived <- struct{}{}
		<-release
		return password == "secret"
	})
	s := harness.Serve(t, "--config", harness.ConfigFile(t, t.TempDir(), `
listen "generic" { address = "127.0.0.1:0" }
backend "json" "app" { url = "`+backend+`" }
domain "dom.example" { backends = [backend.json.app] }
`))
	c, err := net.Dial("tcp", s.Address("generic"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	fmt.Fprint(c, "auth:joe:dom.example:secret\nauth:joe:dom.example:wrong\n")
	<-arrived
	<-arrived
	s.Signal(syscall.SIGTERM)
	s.Eventually("stopping", func() bool { return strings.Contains(s.Log.String(), "msg=stopping") })
	close(release)
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "1\n0\n" {
		t.Errorf("answered %q, %v", got, err)
	}
	<-s.Ended
	if code := s.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestSignals(t *testing.T) {
	dir := t.TempDir()
	logFile := filepath.Join(dir, "postern.log")
	config := harness.ConfigFile(t, filepath.Join(dir, "data"), harness.UsersConfig+"log { file = \""+logFile+"\" }\n")
	cmd := exec.Command(harness.Binary, "serve", "--config", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	harness.FileSays(t, logFile, "msg=ready")
	_ = cmd.Process.Signal(syscall.SIGUSR1)
	harness.FileSays(t, logFile, "domain:dom.example queued=0 restarts=0")
	harness.FileSays(t, logFile, "inflight=0")
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(syscall.SIGHUP)
	harness.FileSays(t, logFile, "log file reopened")
	if info, err := os.Stat(logFile); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("new log file: %v, %v", info, err)
	}
}

// A log in a data directory that is not there yet is no obstacle to the first start.
func TestFirstStartWithALogInTheDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := harness.Start(t, "serve", "--config", harness.ConfigFile(t, dir, harness.OneList+harness.UsersBase+"log { file = \"own.log\" }\n"))
	harness.FileSays(t, filepath.Join(dir, "own.log"), "msg=ready")
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
