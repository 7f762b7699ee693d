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
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	}) == nil
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

// WholeAnswers turns off the translation of LF to CRLF on a server's terminal. The kernel writes
// CRLF in two pieces: a server that reads only the first would take the second for the answer to
// its next question. A terminal with echo, on which a person types, is not changed.
func WholeAnswers(out *os.File) {
	_ = withFD(out, func(fd int) error {
		mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil || mode.Lflag&unix.ECHO != 0 || mode.Oflag&unix.ONLCR == 0 {
			return err
		}
		mode.Oflag &^= unix.ONLCR
		return unix.IoctlSetTermios(fd, unix.TCSETS, mode)
	})
}

// Arrivals watches an input to know a lower bound of the time at which its unread bytes arrived.
// It is for one goroutine.
type Arrivals struct {
	in    *os.File
	since time.Time
}

// NewArrivals watches an input to which a server may have written since this process started.
func NewArrivals(in *os.File) *Arrivals { return &Arrivals{in, processStart()} }

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

// startVariable passes a time on to the program that this process executes: process number, and
// nanoseconds of CLOCK_BOOTTIME.
const startVariable = "POSTERN_BEGUN"

// PassOn sets the environment so that the program that this process executes takes Since for its
// start.
func (a *Arrivals) PassOn() {
	_ = os.Setenv(startVariable, fmt.Sprintf("%d:%d", os.Getpid(), (uptime()-time.Since(a.since)).Nanoseconds()))
}

// processStart returns when this process started, under whatever program, or the time that an
// earlier program passed on: then there was no unread input.
func processStart() time.Time {
	now, up := time.Now(), uptime()
	at := up
	if pid, text, found := strings.Cut(os.Getenv(startVariable), ":"); found && pid == strconv.Itoa(os.Getpid()) {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			at = time.Duration(n)
		}
	} else if stat, err := os.ReadFile("/proc/self/stat"); err == nil {
		at = startTime(string(stat), up)
	}
	return now.Add(-max(up-at, 0))
}

// uptime returns CLOCK_BOOTTIME, by which the kernel notes the starts of processes.
func uptime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // fails for no clock that Linux has
	return time.Duration(now.Nano())
}

// startTime returns field 22 of /proc/PID/stat, see proc(5), or otherwise if there is none. The
// field with the program's name may contain anything.
func startTime(stat string, otherwise time.Duration) time.Duration {
	const ticks = 100 // per second, on all architectures of Go
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return otherwise
	}
	n, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return otherwise
	}
	return time.Duration(n) * (time.Second / ticks)
}
