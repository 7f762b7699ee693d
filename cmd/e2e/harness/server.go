package harness

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a running `postern serve`.
type Server struct {
	T     *testing.T
	Cmd   *exec.Cmd
	Out   OutBuffer
	Log   OutBuffer
	Ended chan struct{}
}

// Serve starts the daemon, waits until it is ready, and ends it with the test.
func Serve(t *testing.T, args ...string) *Server {
	t.Helper()
	return ServeWith(t, Binary, args...)
}

// ServeWith is Serve with another build of the program.
func ServeWith(t *testing.T, program string, args ...string) *Server {
	t.Helper()
	return ServeCommand(t, exec.Command(program, append([]string{"serve"}, args...)...))
}

// ServeCommand is Serve with a command that ends as the daemon, such as a shell that sets limits
// first.
func ServeCommand(t *testing.T, cmd *exec.Cmd) *Server {
	t.Helper()
	s := &Server{T: t, Cmd: cmd}
	s.Cmd.Stdout, s.Cmd.Stderr = &s.Out, &s.Log
	s.Begin()
	return s
}

// Begin starts the daemon of a server and waits until it is ready.
func (s *Server) Begin() {
	t := s.T
	t.Helper()
	s.Ended = make(chan struct{})
	noteSources()
	if err := s.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.Cmd.Wait()
		close(s.Ended)
	}()
	t.Cleanup(func() {
		_ = s.Cmd.Process.Kill()
		<-s.Ended
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", s.Log.String())
		}
	})
	s.Eventually("ready", func() bool { return strings.Contains(s.Log.String(), "msg=ready") })
}

// Eventually is WaitFor, but fails at once when the daemon ends.
func (s *Server) Eventually(what string, met func() bool) {
	s.T.Helper()
	end := time.Now().Add(Timeout)
	for !met() {
		select {
		case <-s.Ended:
			s.T.Fatalf("the daemon ended before: %s\n%s", what, s.Log.String())
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(end) {
			s.T.Fatalf("did not happen: %s\n%s", what, s.Log.String())
		}
	}
}

// Address is where a listener listens, from the log.
func (s *Server) Address(listener string) string {
	s.T.Helper()
	for line := range strings.Lines(s.Log.String()) {
		if strings.Contains(line, "msg=listening listener="+listener+" ") {
			_, addr, _ := strings.Cut(strings.TrimSpace(line), "address=")
			return addr
		}
	}
	s.T.Fatalf("no listener %s", listener)
	return ""
}

// Signal sends the daemon a signal.
func (s *Server) Signal(sig syscall.Signal) {
	s.T.Helper()
	if err := s.Cmd.Process.Signal(sig); err != nil {
		s.T.Fatal(err)
	}
}

// Stop ends the daemon with a signal and returns its exit status.
func (s *Server) Stop(sig syscall.Signal) int {
	s.T.Helper()
	s.Signal(sig)
	select {
	case <-s.Ended:
	case <-time.After(Timeout):
		s.T.Fatal("the daemon did not end")
	}
	return s.Cmd.ProcessState.ExitCode()
}

// LogIn logs the users from low to high in, on one connection.
func (s *Server) LogIn(low, high int) {
	s.T.Helper()
	var input strings.Builder
	for i := low; i < high; i++ {
		input.WriteString(Frame(fmt.Sprintf("auth:user%d:dom.example:secret", i)))
	}
	want := strings.Repeat("\x00\x02\x00\x01", high-low)
	if got := Exchange(s.T, s.Address("ejabberd"), input.String()); got != want {
		s.T.Fatalf("logins were answered %q", got)
	}
}

// MetricsAddress is where the daemon said last that it serves metrics.
func (s *Server) MetricsAddress() string {
	s.T.Helper()
	address := ""
	for line := range strings.Lines(s.Log.String()) {
		if _, at, found := strings.Cut(strings.TrimSpace(line), `msg="serving metrics" address=`); found {
			address = at
		}
	}
	if address == "" {
		s.T.Fatal("no metrics are served")
	}
	return address
}

// Metrics reads the metrics of a daemon.
func (s *Server) Metrics() Exposition {
	s.T.Helper()
	client := http.Client{Timeout: Timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.MetricsAddress() + "/metrics")
	if err != nil {
		s.T.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.T.Fatalf("HTTP %d, %v: %s", resp.StatusCode, err, text)
	}
	return Exposition{s.T, string(text)}
}
