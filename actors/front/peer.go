package front

import (
	"fmt"
	"net"
	"syscall"

	"postern/internal/peercred"
)

// anyUser is the user of peers that the kernel does not name.
const anyUser = -1

// peer is the process at the other end of a Unix socket.
type peer struct {
	uid int // anyUser: not known, as of TCP
	pid int
}

// peerOf asks the kernel for the peer of a connection.
func peerOf(socket net.Conn) peer {
	none := peer{uid: anyUser}
	if a := socket.LocalAddr(); a == nil || a.Network() != "unix" {
		return none
	}
	s, ok := socket.(syscall.Conn)
	if !ok {
		return none
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return none
	}
	var cred peercred.Peer
	if raw.Control(func(fd uintptr) { cred, err = peercred.Of(fd) }) != nil || err != nil {
		return none
	}
	return peer{cred.UID, cred.PID}
}

// Peer says for the log what is at the other end: an address, or the process and its user.
func (c *conn) Peer() string {
	if c.from.uid != anyUser {
		return fmt.Sprintf("pid %d of uid %d", c.from.pid, c.from.uid)
	}
	if a := c.socket.RemoteAddr(); a != nil && a.String() != "" {
		return a.String()
	}
	return "unknown"
}
