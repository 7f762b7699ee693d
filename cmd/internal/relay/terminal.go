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

// Prosody's external_auth_command asks on a pseudo-terminal, and waits 5 s. It takes an answer that
// comes later for that to its next question, and so lets a wrong password in (PROTOCOLS 3.2).
const (
	terminalDeadline = 4 * time.Second
	lookEvery        = 250 * time.Millisecond // for a question
)

// LateAfter is the age from which on a question from a terminal is answered no more: the process
// ends, and is started anew for the next one.
const LateAfter = 4500 * time.Millisecond

// errLate ends a relay that could not answer in time, such as one that was stopped meanwhile.
var errLate = errors.New("an answer is too late: it is not given, for the server would take it for that to its next question")

// punctual are options for a terminal.
func (o Options) punctual() Options {
	o.Deadline, o.LateAfter = min(o.Deadline, terminalDeadline), LateAfter
	return o
}

// OnTerminal reports whether a server asks, and is answered, on a terminal.
func OnTerminal(in, out *os.File) bool { return isTerminal(in) && isTerminal(out) }

func isTerminal(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	found := false
	err = raw.Control(func(fd uintptr) {
		_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		found = err == nil
	})
	return err == nil && found
}

// WholeAnswers keeps a server's terminal from making CRLF of LF. It does so in two pieces, and who
// read the first alone would take the second for the answer to the next question. A terminal on
// which somebody types stays as it is.
func WholeAnswers(out *os.File) {
	raw, err := out.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		mode, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err != nil || mode.Lflag&unix.ECHO != 0 || mode.Oflag&unix.ONLCR == 0 {
			return
		}
		mode.Oflag &^= unix.ONLCR
		_ = unix.IoctlSetTermios(int(fd), unix.TCSETS, mode)
	})
}

// Arrivals watches an input, so that it is known since when at the earliest what can be read from
// it has been there. It is for one goroutine.
type Arrivals struct {
	in    *os.File
	since time.Time
}

// NewArrivals watches an input into which a server may have written since this process began.
func NewArrivals(in *os.File) *Arrivals { return &Arrivals{in, begun()} }

// Since is a time after which all came that can be read. It holds after Wait, and until what is
// there has been read.
func (a *Arrivals) Since() time.Time { return a.since }

// Wait waits for input, for so long at most.
func (a *Arrivals) Wait(patience time.Duration) (ready bool, err error) {
	for _, most := range [...]time.Duration{0, patience} {
		now := time.Now() // not after it: this process may be stopped between the two
		if ready, err = a.poll(most); ready || err != nil {
			return ready, err
		}
		a.since = now
	}
	return false, nil
}

func (a *Arrivals) poll(most time.Duration) (ready bool, err error) {
	raw, err := a.in.SyscallConn()
	if err != nil {
		return false, err
	}
	failed := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		var n int
		n, err = unix.Poll(fds, int(most.Milliseconds()))
		ready = n > 0
	})
	if errors.Is(err, unix.EINTR) {
		err = nil
	}
	return ready, errors.Join(err, failed)
}

// terminalInput is the input of a terminal as Run reads it.
type terminalInput struct{ *Arrivals }

// Read implements io.Reader.
func (t terminalInput) Read(b []byte) (int, error) {
	for {
		if ready, err := t.Wait(lookEvery); ready || err != nil {
			return t.in.Read(b)
		}
	}
}

// begunVariable hands the time on to the program that this process becomes: its number, and
// nanoseconds of CLOCK_BOOTTIME.
const begunVariable = "POSTERN_BEGUN"

// HandOn has the program that this process becomes, in its environment, take Since for its begin.
func (a *Arrivals) HandOn() {
	_ = os.Setenv(begunVariable, fmt.Sprintf("%d:%d", os.Getpid(), (uptime()-time.Since(a.since)).Nanoseconds()))
}

// begun is when this process began, whatever programs it has been since: or when one of them saw
// that there was no input.
func begun() time.Time {
	now, up := time.Now(), uptime()
	at := up
	if pid, text, found := strings.Cut(os.Getenv(begunVariable), ":"); found && pid == strconv.Itoa(os.Getpid()) {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			at = time.Duration(n)
		}
	} else if stat, err := os.ReadFile("/proc/self/stat"); err == nil {
		at = startTime(string(stat), up)
	}
	return now.Add(-max(up-at, 0))
}

// uptime is CLOCK_BOOTTIME, on which the kernel notes when processes begin.
func uptime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // fails for no clock that Linux has
	return time.Duration(now.Nano())
}

// startTime is field 22 of /proc/PID/stat, see proc(5), or else otherwise. The name of the program
// may hold anything.
func startTime(stat string, otherwise time.Duration) time.Duration {
	const ticks = 100 // per second, on all that Go knows
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
