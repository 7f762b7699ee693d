package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the descriptors that the service manager keeps from one process of the service to the next
// (sd_notify(3), FDSTORE). No socket unit has such a name by default: those end with ".socket".
const (
	KeptMemory   = "postern-memory"
	KeptLock     = "postern-lock"      // of the data directory
	KeptListener = "postern-listener-" // and what distinguishes listeners
)

// barrierTimeout bounds the wait for the service manager to have taken what was sent before.
const barrierTimeout = 5 * time.Second

// IsKept reports whether a descriptor has the name of one that is kept.
func IsKept(name string) bool {
	return name == KeptMemory || name == KeptLock || strings.HasPrefix(name, KeptListener) && !strings.HasSuffix(name, ".socket")
}

// Active reports whether there is a service manager to notify.
func (n *Notifier) Active() bool { return n != nil && n.socket != "" }

// Keep has the service manager keep a descriptor, and pass it to the next process of the service under its
// name. It keeps no descriptor twice. It drops all of them when the service is stopped rather than
// restarted, and keeps none where the unit has no FileDescriptorStoreMax=.
func (n *Notifier) Keep(name string, of syscall.Conn) error {
	return n.sendWith(of, "FDSTORE=1", "FDNAME="+name)
}

// Drop has the service manager close the descriptors that it keeps under a name.
func (n *Notifier) Drop(name string) error { return n.sendWith(nil, "FDSTOREREMOVE=1", "FDNAME="+name) }

// Barrier returns when the service manager has taken all that was sent before.
func (n *Notifier) Barrier() error {
	if !n.Active() {
		return nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	err = n.sendWith(write, "BARRIER=1")
	if err = errors.Join(err, write.Close()); err != nil {
		return err
	}
	// The manager closes its descriptor of the pipe, which has no other then.
	_ = read.SetReadDeadline(time.Now().Add(barrierTimeout))
	if _, err := read.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the service manager does not take notifications")
	}
	return nil
}

// sendWith sends a message and, if of is not nil, a descriptor with it.
func (n *Notifier) sendWith(of syscall.Conn, lines ...string) (err error) {
	if !n.Active() {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("notify the service manager of %s: %w", lines[0], err)
		}
	}()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: n.socket})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(notifyTimeout))
	text := []byte(strings.Join(lines, "\n"))
	if of == nil {
		_, err = conn.Write(text)
		return err
	}
	raw, err := of.SyscallConn()
	if err != nil {
		return err
	}
	out, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	write := func(fd int) error { // net.UnixConn sends no descriptors on a connected datagram socket
		return out.Write(func(to uintptr) bool {
			failed = unix.Sendmsg(int(to), text, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
			return !errors.Is(failed, unix.EAGAIN)
		})
	}
	var unsent error
	err = raw.Control(func(fd uintptr) { unsent = write(int(fd)) })
	return errors.Join(err, unsent, failed)
}
