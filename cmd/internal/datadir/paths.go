// Package datadir is the data directory of a daemon as other processes see it: which files are
// where, which process owns it, and to which user its files belong.
//
// One process at a time owns a data directory: it holds the lock of LockFile, and so is the only
// one that opens the store. It takes commands on ControlSocket and requests of `postern pipe` on
// RelaySocket. The owner is the daemon or, where none runs, a broker that the first pipe starts,
// which gives way to a daemon. Where the directory cannot be written, or its path is too long for
// a socket, both sockets are in a private directory instead, which every process derives from
// the path of the data directory: see Rendezvous.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Files of the directory where the owner and its clients meet.
const (
	ControlSocket = "control.sock"
	RelaySocket   = "relay.sock"
	LockFile      = "owner.lock" // holds the owner's process number
)

// longestSocket is the longest path of a socket in bytes: 107 on Linux, see unix(7).
const longestSocket = len(syscall.RawSockaddrUnix{}.Path) - 1

// dialTimeout is how long a connection to a local socket may take.
const dialTimeout = time.Second

// Store returns the directory of the store.
func Store(dir string) string { return filepath.Join(dir, "store") }

// Control returns the path of the owner's control socket: in the data directory or, if nothing
// listens there, where an owner listens that cannot write to the data directory.
func Control(dir string) string {
	own := filepath.Join(dir, ControlSocket)
	if mayListen(own) {
		return own
	}
	if service := filepath.Join(Runtime(dir), ControlSocket); mayListen(service) {
		return service
	}
	if !errors.Is(unix.Access(dir, unix.W_OK), unix.EROFS) {
		return own
	}
	meeting, err := Rendezvous(dir)
	if err != nil {
		return own
	}
	return filepath.Join(meeting, ControlSocket)
}

// MayBeServed reports whether a process has, or may have, its control socket in a data directory: perhaps this user
// may not connect to it.
func MayBeServed(dir string) bool { return mayListen(filepath.Join(dir, ControlSocket)) }

// mayListen reports whether a process listens on a socket, or may do so: perhaps this user may
// not connect to it.
func mayListen(path string) bool {
	c, err := net.DialTimeout("unix", path, dialTimeout)
	if err == nil {
		_ = c.Close()
	}
	return err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) &&
		!errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.EINVAL)
}

// CheckSocketPaths returns an error if clients could not connect to the sockets of a directory
// because their paths are too long. Listening on them would succeed: they are made under a
// shorter name and then renamed.
func CheckSocketPaths(dir string) error {
	for _, name := range [...]string{RelaySocket, ControlSocket} {
		if path := filepath.Join(dir, name); len(path) > longestSocket {
			return fmt.Errorf("the path %s is too long for a socket: choose a shorter data_dir", path)
		}
	}
	return nil
}
