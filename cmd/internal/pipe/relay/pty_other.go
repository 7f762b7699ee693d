//go:build !linux

package relay

import "golang.org/x/sys/unix"

// Requests of tcgetattr(3) and tcsetattr(3), and a clock.
const (
	termiosGet  = unix.TIOCGETA
	termiosSet  = unix.TIOCSETA
	uptimeClock = unix.CLOCK_MONOTONIC
)
