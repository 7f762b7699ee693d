package relay

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Prosody's external_auth_command asks on a pseudo-terminal and waits 5 s. It pairs an answer that
// comes later with its next question, and so would accept a wrong password.
const (
	ptyDeadline = 4 * time.Second
	pollEvery   = 250 * time.Millisecond
)

// LateAfter is the age at which a question from a terminal is not answered any more: the process
// ends, and the server starts another one for its next question.
const LateAfter = 4500 * time.Millisecond

// errLate ends a relay that could not answer in time, such as one that was stopped by SIGSTOP.
var errLate = errors.New("an answer is too late and not written: the server would pair it with its next question")

// strictDeadline returns options for a terminal: its peer would pair a late answer with its next
// request.
func (o Options) strictDeadline() Options {
	o.Deadline, o.LateAfter = min(o.Deadline, ptyDeadline), LateAfter
	return o
}

// OnTerminal reports whether both streams are a terminal.
func OnTerminal(in, out *os.File) bool { return isTerminal(in) && isTerminal(out) }

func isTerminal(f *os.File) bool {
	return withFD(f, func(fd int) error {
		_, err := unix.IoctlGetTermios(fd, termiosGet)
		return err
	}) == nil
}

// PassesLines reports whether a file is a terminal that passes on whole lines only.
func PassesLines(f *os.File) (yes bool) {
	_ = withFD(f, func(fd int) error {
		mode, err := unix.IoctlGetTermios(fd, termiosGet)
		yes = err == nil && mode.Lflag&unix.ICANON != 0
		return err
	})
	return yes
}

// Echoes reports whether a file is a terminal with echo.
func Echoes(f *os.File) (yes bool) {
	_ = withFD(f, func(fd int) error {
		mode, err := unix.IoctlGetTermios(fd, termiosGet)
		yes = err == nil && mode.Lflag&unix.ECHO != 0
		return err
	})
	return yes
}

// withFD calls do with the descriptor of a file. Unlike Fd it does not make the file block.
func withFD(f *os.File, do func(fd int) error) (err error) {
	raw, err := f.SyscallConn()
	if err == nil {
		failed := raw.Control(func(fd uintptr) { err = do(int(fd)) })
		err = errors.Join(err, failed)
	}
	return err
}

// wholeAnswers turns off the translation of LF to CRLF on a server's terminal. The kernel writes
// CRLF in two pieces: a server that reads only the first would take the second for the answer to
// its next question. A terminal with echo, on which a person types, is not changed.
func wholeAnswers(out *os.File) {
	_ = withFD(out, func(fd int) error {
		mode, err := unix.IoctlGetTermios(fd, termiosGet)
		if err != nil || mode.Lflag&unix.ECHO != 0 || mode.Oflag&unix.ONLCR == 0 {
			return err
		}
		mode.Oflag &^= unix.ONLCR
		return unix.IoctlSetTermios(fd, termiosSet, mode)
	})
}

// Arrivals watches an input to know a lower bound of the time at which its unread bytes arrived.
// It is for one goroutine.
type Arrivals struct {
	in      *os.File
	since   time.Time
	resumed bool // an earlier program of this process has watched the input
}

// NewArrivals watches an input from now on, or goes on where the program that executed this one
// stopped.
func NewArrivals(in *os.File) *Arrivals {
	since, resumed := passedOn()
	if !resumed {
		since = time.Now()
	}
	return &Arrivals{in, since, resumed}
}

// OpenTerminal prepares a server's terminal and drops what was in its input before this process
// started. A server writes its first question at once, and switches the echo off in the process that
// it starts: if the question was there before, the server has read its echo as the answer, and would
// take the answer for that to its next question. The question that is dropped fails, and no other.
// It reports whether the input has ended.
func (a *Arrivals) OpenTerminal(out *os.File) (ended bool) {
	if !a.resumed {
		echoed := setEcho(a.in, false)
		var dropped bool
		dropped, ended = a.drop()
		if echoed && !dropped {
			setEcho(a.in, true) // a person's terminal
		}
	}
	wholeAnswers(out)
	return ended
}

// drop reads what is in the input already, line by line.
func (a *Arrivals) drop() (dropped, ended bool) {
	buf := make([]byte, 4096)
	defer clear(buf) // there are passwords in it
	for {
		now := time.Now()
		ready, err := a.poll(0)
		if !ready || err != nil {
			a.since = now
			return dropped, false
		}
		if n, _ := a.in.Read(buf); n == 0 {
			return dropped, true
		}
		dropped = true
	}
}

// setEcho switches the echo of a terminal, and reports whether that changed something.
func setEcho(terminal *os.File, on bool) (changed bool) {
	_ = withFD(terminal, func(fd int) error {
		mode, err := unix.IoctlGetTermios(fd, termiosGet)
		if err != nil || (mode.Lflag&unix.ECHO != 0) == on {
			return err
		}
		mode.Lflag ^= unix.ECHO
		err = unix.IoctlSetTermios(fd, termiosSet, mode)
		changed = err == nil
		return err
	})
	return changed
}

// Since returns a time before anything arrived of what can be read. It is valid after Wait, until
// that has been read.
func (a *Arrivals) Since() time.Time { return a.since }

// Wait waits for input, until timeout at most.
func (a *Arrivals) Wait(timeout time.Duration) (ready bool, err error) {
	for _, most := range [...]time.Duration{0, timeout} {
		now := time.Now() // before the poll: this process may be stopped in between
		if ready, err = a.poll(most); ready || err != nil {
			return ready, err
		}
		a.since = now
	}
	return false, nil
}

func (a *Arrivals) poll(most time.Duration) (ready bool, err error) {
	err = withFD(a.in, func(fd int) error {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(most.Milliseconds()))
		ready = n > 0
		return err
	})
	if errors.Is(err, unix.EINTR) {
		err = nil
	}
	return ready, err
}

// ptyInput is a terminal as the input of Run.
type ptyInput struct{ *Arrivals }

// Read implements io.Reader.
func (t ptyInput) Read(b []byte) (int, error) {
	for {
		if ready, err := t.Wait(pollEvery); ready || err != nil {
			return t.in.Read(b)
		}
	}
}

// startVariable passes Since on to the program that this process executes: process number, and
// nanoseconds of uptime.
const startVariable = "POSTERN_BEGUN"

// PassOn sets the environment so that the program that this process executes goes on watching the
// input: what arrived meanwhile is no older than Since, and is not dropped.
func (a *Arrivals) PassOn() {
	_ = os.Setenv(startVariable, fmt.Sprintf("%d:%d", os.Getpid(), (uptime()-time.Since(a.since)).Nanoseconds()))
}

// passedOn returns the time that an earlier program of this process passed on.
func passedOn() (since time.Time, ok bool) {
	pid, text, _ := strings.Cut(os.Getenv(startVariable), ":")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || pid != strconv.Itoa(os.Getpid()) {
		return time.Time{}, false
	}
	return time.Now().Add(-max(uptime()-time.Duration(n), 0)), true
}

// uptime returns the time of a clock that counts on while programs of this process change.
func uptime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(uptimeClock, &now) // fails for no clock that the system has
	return time.Duration(now.Nano())
}
