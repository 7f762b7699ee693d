package peercred

import "golang.org/x/sys/unix"

// Of returns the peer of a socket. It fails for sockets of other kinds.
func Of(fd uintptr) (Peer, error) {
	cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err == nil && cred.Uid == ^uint32(0) { // as for TCP
		err = unix.ENOTCONN
	}
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}
