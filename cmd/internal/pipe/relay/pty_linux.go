package relay

import "golang.org/x/sys/unix"

// Requests of tcgetattr(3) and tcsetattr(3), and a clock that also counts while the machine sleeps.
const (
	termiosGet  = unix.TCGETS
	termiosSet  = unix.TCSETS
	uptimeClock = unix.CLOCK_BOOTTIME
)
