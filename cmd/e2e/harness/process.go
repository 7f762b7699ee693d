package harness

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a running command. The test holds the other ends of its standard streams.
type Process struct {
	T     *testing.T
	Cmd   *exec.Cmd
	In    *os.File // the test's end of standard input
	Out   *os.File // the test's end of standard output
	Log   OutBuffer
	Ended chan struct{}

	mark   *os.File // a write end of standard error for Exit
	marked chan struct{}
}

// Start runs a command with pipes as its input and output, and ends it with the test.
func Start(t *testing.T, args ...string) *Process {
	t.Helper()
	return StartProgram(t, Binary, nil, args...)
}

// StartWith is Start with further files that the command inherits.
func StartWith(t *testing.T, inherited []*os.File, args ...string) *Process {
	t.Helper()
	return StartProgram(t, Binary, inherited, args...)
}

// StartProgram is StartWith with another build of the program.
func StartProgram(t *testing.T, program string, inherited []*os.File, args ...string) *Process {
	t.Helper()
	stdin, in := Pipe(t)
	out, stdout := Pipe(t)
	// A broker that the command starts writes to the same standard error, and outlives it: the
	// end of the command is not that of this pipe.
	errs, stderr := Pipe(t)
	p := &Process{T: t, Cmd: exec.Command(program, args...), In: in, Out: out,
		mark: stderr, marked: make(chan struct{}, 1)}
	p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr = stdin, stdout, stderr
	p.Cmd.ExtraFiles = inherited
	p.Run()
	go p.copyLog(errs)
	// The child alone holds its ends, so that each side sees the other close.
	_, _ = stdin.Close(), stdout.Close()
	return p
}

// copyLog copies standard error. A NUL byte, which no log contains, is written by Exit: everything
// before it has been copied then.
func (p *Process) copyLog(from *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		_, _ = p.Log.Write(bytes.ReplaceAll(buf[:n], []byte{0}, nil))
		if bytes.IndexByte(buf[:n], 0) >= 0 {
			p.marked <- struct{}{}
		}
		if err != nil {
			return
		}
	}
}

// Run starts a command that the test has put together, and ends it with the test.
func (p *Process) Run() {
	p.T.Helper()
	p.Ended = make(chan struct{})
	noteSources()
	if err := p.Cmd.Start(); err != nil {
		p.T.Fatal(err)
	}
	go func() {
		_ = p.Cmd.Wait()
		close(p.Ended)
	}()
	p.T.Cleanup(func() {
		_ = p.Cmd.Process.Kill()
		<-p.Ended
		if p.T.Failed() {
			p.T.Logf("standard error of %v:\n%s", p.Cmd.Args[1:], p.Log.String())
		}
	})
}

// Send writes to the command's standard input.
func (p *Process) Send(text string) {
	p.T.Helper()
	_ = p.In.SetWriteDeadline(time.Now().Add(Timeout))
	if _, err := io.WriteString(p.In, text); err != nil {
		p.T.Fatalf("send: %v\n%s", err, p.Log.String())
	}
}

// Expect reads as many bytes as want has, and compares.
func (p *Process) Expect(want string) {
	p.T.Helper()
	_ = p.Out.SetReadDeadline(time.Now().Add(Timeout))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(p.Out, got); err != nil || string(got) != want {
		p.T.Fatalf("answered %q, %v; want %q\n%s", got[:n], err, want, p.Log.String())
	}
}

// Finish ends the input and returns what is still to be read and the exit status.
func (p *Process) Finish() (rest string, code int) {
	p.T.Helper()
	_ = p.In.Close()
	_ = p.Out.SetReadDeadline(time.Now().Add(Timeout))
	data, err := io.ReadAll(p.Out)
	if err != nil {
		p.T.Errorf("after %q: %v", data, err)
	}
	return string(data), p.Exit()
}

// Exit waits for the end and returns the exit status, -1 after a signal.
func (p *Process) Exit() int {
	p.T.Helper()
	select {
	case <-p.Ended:
	case <-time.After(Timeout):
		p.T.Fatalf("%v did not end\n%s", p.Cmd.Args[1:], p.Log.String())
	}
	if p.mark != nil { // what it wrote to standard error is there, too
		_, _ = p.mark.Write([]byte{0})
		<-p.marked
		_ = p.mark.Close()
		p.mark = nil
	}
	return p.Cmd.ProcessState.ExitCode()
}

// Signal sends the command a signal.
func (p *Process) Signal(sig syscall.Signal) {
	p.T.Helper()
	if err := p.Cmd.Process.Signal(sig); err != nil {
		p.T.Fatal(err)
	}
}

// Logged waits until standard error holds a text.
func (p *Process) Logged(what string) {
	p.T.Helper()
	WaitFor(p.T, "standard error says "+what, func() bool { return strings.Contains(p.Log.String(), what) })
}
