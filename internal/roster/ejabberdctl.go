package roster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"postern/internal/childenv"
)

// Bounds on the output of a program, in bytes.
const (
	maxListing = 16 << 20
	maxNote    = 2 << 10
)

// exitNoNode is ejabberdctl's exit status when it cannot reach the running server.
const exitNoNode = 3

// ctl runs ejabberdctl once for each step.
type ctl struct {
	path    string
	timeout time.Duration
}

// NewEjabberdctl returns an executor that runs the program at path, each time for timeout at most.
func NewEjabberdctl(path string, timeout time.Duration) Executor { return &ctl{path, timeout} }

// Close implements Executor.
func (*ctl) Close() {}

// Do implements Executor.
func (c *ctl) Do(ctx context.Context, s Step) ([]string, error) {
	out, err := run(ctx, c.timeout, c.path, s.Args()...)
	if err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if ok && exit.ExitCode() > 0 && exit.ExitCode() != exitNoNode {
			return nil, fmt.Errorf("%w: %s: %w", ErrRefused, s.Command, err)
		}
		return nil, fmt.Errorf("%s: %w", s.Command, err)
	}
	if s.Command != GetMembers {
		return nil, nil
	}
	// Messages of the Erlang runtime, such as about a missing inetrc, are in the output too.
	var members []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimRight(line, "\r\n"); strings.Contains(line, "@") && !strings.ContainsAny(line, " \t") {
			members = append(members, line)
		}
	}
	return members, nil
}

// run runs a program to its end and returns its standard output. The error has its exit status and
// standard error. The programs that it started end with it.
func run(ctx context.Context, timeout time.Duration, path string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = childenv.New()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, note := &bounded{limit: maxListing}, &bounded{limit: maxNote}
	cmd.Stdout, cmd.Stderr = out, note
	err := cmd.Run()
	switch {
	case err == nil && !out.over:
		return out.Bytes(), nil
	case err == nil:
		return nil, fmt.Errorf("it wrote more than %d bytes", maxListing)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s did not end within %v: %w", path, timeout, ctx.Err())
	}
	if text := strings.Join(strings.Fields(note.String()+" "+clip(out.String())), " "); text != "" {
		return nil, fmt.Errorf("%s: %w: %s", path, err, text)
	}
	return nil, fmt.Errorf("%s: %w", path, err)
}

func clip(text string) string { return text[:min(len(text), maxNote)] }

// bounded keeps the first bytes written to it, up to limit.
type bounded struct {
	bytes.Buffer
	limit int
	over  bool
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	room := b.limit - b.Len()
	b.over = b.over || len(p) > room
	b.Buffer.Write(p[:min(len(p), room)])
	return len(p), nil
}
