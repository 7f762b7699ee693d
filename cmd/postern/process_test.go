package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// process is a running command whose standard streams the test holds.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    *os.File // the test's end of standard input
	out   *os.File // the test's end of standard output
	log   outBuffer
	ended chan struct{}

	mark   *os.File // our hold on standard error, until exit
	marked chan struct{}
}

// start runs a command whose input and output are pipes, and ends it with the test.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startProgram(t, binary, nil, args...)
}

// startWith is start with further files that the command inherits.
func startWith(t *testing.T, inherited []*os.File, args ...string) *process {
	t.Helper()
	return startProgram(t, binary, inherited, args...)
}

// startProgram is startWith with another build of the program.
func startProgram(t *testing.T, program string, inherited []*os.File, args ...string) *process {
	t.Helper()
	stdin, in := pipe(t)
	out, stdout := pipe(t)
	// A broker that the command starts writes to the same standard error, and outlives it: the
	// end of the command is not that of this pipe.
	errs, stderr := pipe(t)
	p := &process{t: t, cmd: exec.Command(program, args...), in: in, out: out, ended: make(chan struct{}),
		mark: stderr, marked: make(chan struct{}, 1)}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, stderr
	p.cmd.ExtraFiles = inherited
	p.run()
	go p.copyLog(errs)
	// The child alone holds its ends, so that each side sees the other go.
	_, _ = stdin.Close(), stdout.Close()
	return p
}

// copyLog copies standard error. A NUL, which no log holds, is exit's: all before it has come.
func (p *process) copyLog(from *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		_, _ = p.log.Write(bytes.ReplaceAll(buf[:n], []byte{0}, nil))
		if bytes.IndexByte(buf[:n], 0) >= 0 {
			p.marked <- struct{}{}
		}
		if err != nil {
			return
		}
	}
}

func (p *process) run() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if p.t.Failed() {
			p.t.Logf("standard error of %v:\n%s", p.cmd.Args[1:], p.log.String())
		}
	})
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func (p *process) send(text string) {
	p.t.Helper()
	_ = p.in.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.in, text); err != nil {
		p.t.Fatalf("send: %v\n%s", err, p.log.String())
	}
}

// expect reads as many bytes as want has, and compares.
func (p *process) expect(want string) {
	p.t.Helper()
	_ = p.out.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(p.out, got); err != nil || string(got) != want {
		p.t.Fatalf("answered %q, %v; want %q\n%s", got[:n], err, want, p.log.String())
	}
}

// finish ends the input and returns what is still to be read and the exit status.
func (p *process) finish() (rest string, code int) {
	p.t.Helper()
	_ = p.in.Close()
	_ = p.out.SetReadDeadline(time.Now().Add(patience))
	data, err := io.ReadAll(p.out)
	if err != nil {
		p.t.Errorf("after %q: %v", data, err)
	}
	return string(data), p.exit()
}

// exit waits for the end and returns the exit status, -1 after a signal.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%v did not end\n%s", p.cmd.Args[1:], p.log.String())
	}
	if p.mark != nil { // what it wrote to standard error is there, too
		_, _ = p.mark.Write([]byte{0})
		<-p.marked
		_ = p.mark.Close()
		p.mark = nil
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// logged waits until standard error holds a text.
func (p *process) logged(what string) {
	p.t.Helper()
	waitFor(p.t, "standard error says "+what, func() bool { return strings.Contains(p.log.String(), what) })
}

// waitFor waits until a condition is met, within patience.
func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !met(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// fileSays waits until a file holds a text.
func fileSays(t *testing.T, file, what string) {
	t.Helper()
	waitFor(t, file+" says "+what, func() bool { return strings.Contains(readText(file), what) })
}

// readText is the text of a file, empty without one.
func readText(file string) string {
	data, _ := os.ReadFile(file)
	return string(data)
}

// connect opens a connection to a listener's address.
func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// say writes to a connection and compares what comes back.
func say(t *testing.T, c net.Conn, text, want string) {
	t.Helper()
	if text != "" { // even writing nothing fails where the peer has answered and gone
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q was answered %q, %v; want %q", text, got[:n], err, want)
	}
}

// closedBy reports whether a connection ends from the other side without another byte.
func closedBy(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("the connection was not closed: %q, %v", rest, err)
	}
}

// webApp is an HTTP backend whose behaviour a test can change.
type webApp struct {
	*httptest.Server
	asked atomic.Int64
	serve atomic.Pointer[http.HandlerFunc]
}

func newWebApp(t *testing.T, first http.HandlerFunc) *webApp {
	t.Helper()
	s := &webApp{}
	s.serve.Store(&first)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		(*s.serve.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *webApp) becomes(next http.HandlerFunc) { s.serve.Store(&next) }

// always answers every question alike.
func always(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Answers of the json backend's API.
const (
	jsonYes = `{"success": true}`
	jsonNo  = `{"success": false, "message": "no"}`
)

// deadURL is the address of a server that is not there.
func deadURL(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
}
