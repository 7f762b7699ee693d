//go:build darwin || freebsd

package peercred

import "golang.org/x/sys/unix"

// Of returns the peer of a socket. It fails for sockets of other kinds.
func Of(fd uintptr) (Peer, error) {
	cred, err := unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err == nil && cred.Ngroups < 1 { // as for TCP, where the option is another one
		err = unix.ENOTCONN
	}
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(cred.Uid)}, nil
}
