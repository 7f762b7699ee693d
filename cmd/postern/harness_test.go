package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pt") // short, for the sockets below it
	if err != nil {
		panic(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // mail servers have users of their own
		panic(err)
	}
	_ = os.Setenv("TMPDIR", dir) // where pipes make directories of their own, see relayDir
	// A program under the race detector sleeps a second at its end, unless told otherwise.
	_ = os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	binary = filepath.Join(dir, "postern")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, ".")...)
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// program looks for a program that setup.sh installs.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path := filepath.Join(dir, name); exec.Command("test", "-x", path).Run() == nil {
			return path
		}
	}
	t.Fatalf("%s is missing: run scripts/setup.sh", name)
	return ""
}

// result is what came of a command.
type result struct {
	code     int
	out, err string
}

// command runs the program under test to its end.
func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return runCommand(t, stdin, binary, args...)
}

func runCommand(t *testing.T, stdin, name string, args ...string) (r result) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		t.Errorf("%s %v did not end", name, args)
	}
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ok runs a command that must succeed, and returns its output.
func ok(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	r := command(t, stdin, args...)
	if r.code != 0 {
		t.Fatalf("postern %s: exit status %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// server is a running `postern serve`.
type server struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   outBuffer
	log   outBuffer
	ended chan struct{}
}

// outBuffer is output that is read while it is written.
type outBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *outBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *outBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// configFile writes a configuration whose data directory is dir.
func configFile(t *testing.T, dir, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.hcl")
	text = fmt.Sprintf("data_dir = %q\n", dir) + text
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serve starts the daemon, waits until it is ready, and ends it with the test.
func serve(t *testing.T, args ...string) *server {
	t.Helper()
	return serveWith(t, binary, args...)
}

// serveWith is serve with another build of the program.
func serveWith(t *testing.T, program string, args ...string) *server {
	t.Helper()
	return serveCommand(t, exec.Command(program, append([]string{"serve"}, args...)...))
}

// serveCommand is serve with a command that ends as the daemon, such as a shell that sets limits
// first.
func serveCommand(t *testing.T, cmd *exec.Cmd) *server {
	t.Helper()
	s := &server{t: t, cmd: cmd, ended: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.log
	s.begin()
	return s
}

// begin starts the daemon of a server and waits until it is ready.
func (s *server) begin() {
	t := s.t
	t.Helper()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", s.log.String())
		}
	})
	s.eventually("ready", func() bool { return strings.Contains(s.log.String(), "msg=ready") })
}

func (s *server) eventually(what string, met func() bool) {
	s.t.Helper()
	end := time.Now().Add(patience)
	for !met() {
		select {
		case <-s.ended:
			s.t.Fatalf("the daemon ended before: %s\n%s", what, s.log.String())
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(end) {
			s.t.Fatalf("did not happen: %s\n%s", what, s.log.String())
		}
	}
}

// address is where a listener listens, from the log.
func (s *server) address(listener string) string {
	s.t.Helper()
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "msg=listening listener="+listener+" ") {
			_, addr, _ := strings.Cut(strings.TrimSpace(line), "address=")
			return addr
		}
	}
	s.t.Fatalf("no listener %s", listener)
	return ""
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the daemon with a signal and returns its exit status.
func (s *server) stop(sig syscall.Signal) int {
	s.t.Helper()
	s.signal(sig)
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Fatal("the daemon did not end")
	}
	return s.cmd.ProcessState.ExitCode()
}

// exchange sends input to an address, ends sending, and returns what comes back.
func exchange(t *testing.T, address, input string) string {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, input); err != nil {
		t.Fatal(err)
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	out, err := io.ReadAll(bufio.NewReader(c))
	if err != nil {
		t.Fatalf("after %q: %v", out, err)
	}
	return string(out)
}

// frame is a request of ejabberd's protocol.
func frame(text string) string { return string([]byte{byte(len(text) >> 8), byte(len(text))}) + text }

// fields is a request of saslauthd's protocol.
func fields(text ...string) string {
	var b strings.Builder
	for _, f := range text {
		b.WriteString(frame(f))
	}
	return b.String()
}
