// Package peercred asks the kernel for the process at the other end of a Unix socket.
package peercred

// Peer is that process as it was when it connected.
type Peer struct {
	UID int
	PID int // 0 where the kernel does not name it
}
