package harness

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Terminal opens a pseudo-terminal as lpty does: echo off, everything else as it comes.
func Terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = master.Close(), slave.Close() })
	SetEcho(t, slave, false)
	return master, slave
}

// SetEcho has a terminal show what is typed, or not.
func SetEcho(t *testing.T, terminal *os.File, on bool) {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Lflag &^= unix.ECHO
	if on {
		mode.Lflag |= unix.ECHO
	}
	if err := unix.IoctlSetTermios(int(terminal.Fd()), unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
}

// StartOnTerminal starts a pipe with one terminal, its controlling one, as all three streams, and
// ends it with the test.
func StartOnTerminal(t *testing.T, args ...string) *Process {
	t.Helper()
	master, slave := Terminal(t)
	return OnTerminal(t, exec.Command(Binary, args...), master, slave)
}

// OnTerminal runs a pipe on a terminal until the end of the test, and returns when the pipe reads
// what is written from then on.
func OnTerminal(t *testing.T, cmd *exec.Cmd, master, slave *os.File) *Process {
	t.Helper()
	p := &Process{T: t, Cmd: cmd, In: master, Out: master}
	p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr = slave, slave, slave
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p.Run()
	_ = slave.Close()
	p.AwaitTerminal()
	return p
}

// AwaitTerminal waits until a pipe has dropped what was on its terminal: it then no longer lets the
// terminal make two characters of LF.
func (p *Process) AwaitTerminal() {
	p.T.Helper()
	WaitFor(p.T, "the pipe listens to its terminal", func() bool {
		mode, err := unix.IoctlGetTermios(int(p.Out.Fd()), unix.TCGETS)
		return err == nil && mode.Oflag&unix.ONLCR == 0
	})
}
