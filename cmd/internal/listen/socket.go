// Package listen opens the sockets of the configuration's listeners: TCP sockets, socket files
// with their mode and owner, and those that systemd has opened already (socket activation).
//
// A socket file appears under its name only when its mode and owner are set, so that no client
// connects too early, and replaces only a socket on which no process listens. Go's default
// backlog of 128 is raised: a burst of logins fills it.
package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/config"
)

// dialTimeout is how long the process that made a socket file may take to accept a connection.
const dialTimeout = time.Second

// Open opens a listener's address.
func Open(cfg config.Listener) (net.Listener, error) {
	if cfg.Network != "unix" {
		l, err := net.Listen(cfg.Network, cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("listener %q: %w: %s", cfg.Name, err, cure(err))
		}
		raiseBacklog(l)
		return l, nil
	}
	l, err := listenUnix(cfg.Address, cfg.Mode, cfg.Owner, cfg.Group)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", cfg.Name, err)
	}
	return l, nil
}

// Private listens on a socket file that only this user can open, in a directory that this process
// has locked. A socket that is there already is left over from another process and replaced,
// without a connection to it: perhaps this user may not connect.
func Private(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := listenUnix(path, 0o600, "", "")
	if err != nil {
		return nil, err // not l, which would be an interface that is not nil
	}
	return l, nil
}

// ShownAddress returns the address of an open listener for people: with the port that the kernel
// chose for port 0, and the path that its socket file was given.
func ShownAddress(cfg config.Listener, socket net.Listener) string {
	if cfg.Network == "unix" {
		return cfg.Address
	}
	return socket.Addr().String()
}

// backlog is how many connections may wait to be accepted; the kernel lowers it to somaxconn.
const backlog = 4096

// raiseBacklog sets a listener's backlog. Go takes it from a file in /proc that the sandbox of
// the systemd unit hides, and uses 128 without that.
func raiseBacklog(l any) {
	conn, ok := l.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Listen(int(fd), backlog) })
	}
}

// cure says what to do about an address that cannot be opened.
func cure(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop the program that listens there, or choose another address"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 need root or CAP_NET_BIND_SERVICE"
	}
	return "check the address"
}

// unixListener removes its socket file when it is closed, if the file is still its own and no other
// process has the socket.
type unixListener struct {
	*net.UnixListener
	path string
	own  fs.FileInfo
	kept atomic.Bool // another process has the socket
	once sync.Once
}

// Close implements net.Listener.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if l.kept.Load() {
			return
		}
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.own) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

// listenUnix listens on a socket file with the given mode and owner.
func listenUnix(path string, mode fs.FileMode, owner, group string) (*unixListener, error) {
	uid, gid, err := lookupOwner(owner, group)
	if err != nil {
		return nil, err
	}
	if err := checkReplaceable(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory of socket: %w", err)
	}
	temp := filepath.Join(dir, fmt.Sprintf(".%d~", os.Getpid()))
	_ = os.Remove(temp)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: temp})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	own, err := publish(temp, path, mode, uid, gid)
	if err != nil {
		_ = l.Close()
		_ = os.Remove(temp)
		return nil, err
	}
	raiseBacklog(l)
	return &unixListener{UnixListener: l, path: path, own: own}, nil
}

// publish sets mode and owner of a socket file and then moves it to its path.
func publish(temp, path string, mode fs.FileMode, uid, gid int) (fs.FileInfo, error) {
	if uid != -1 || gid != -1 {
		if err := chown(temp, uid, gid); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(temp, mode); err != nil {
		return nil, fmt.Errorf("set mode of socket: %w", err)
	}
	own, err := os.Lstat(temp)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, fmt.Errorf("put socket in its place: %w", err)
	}
	return own, nil
}

func chown(path string, uid, gid int) error {
	if err := os.Chown(path, uid, gid); err != nil {
		return fmt.Errorf("set owner of socket (postern must run as root, or as a member of the group): %w", err)
	}
	return nil
}

// checkReplaceable returns why path must not be replaced by a new socket.
func checkReplaceable(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket: move it away or choose another address", path)
	}
	c, err := net.DialTimeout("unix", path, dialTimeout)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("another process listens on %s already: stop that program first", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist): // removed meanwhile
		return nil
	}
	// The process is busy, or this user may not connect to it.
	return fmt.Errorf("another process may be listening on %s: %w: stop that program first, or remove the file if there is none", path, err)
}

// lookupOwner resolves names or numbers; -1 keeps what the process has.
func lookupOwner(owner, group string) (uid, gid int, err error) {
	uid, gid = -1, -1
	if owner != "" {
		if uid, err = strconv.Atoi(owner); err != nil {
			u, err := user.Lookup(owner)
			if err != nil {
				return 0, 0, fmt.Errorf("owner of socket: %w", err)
			}
			uid, _ = strconv.Atoi(u.Uid)
		}
	}
	if group != "" {
		if gid, err = strconv.Atoi(group); err != nil {
			g, err := user.LookupGroup(group)
			if err != nil {
				return 0, 0, fmt.Errorf("group of socket: %w", err)
			}
			gid, _ = strconv.Atoi(g.Gid)
		}
	}
	return uid, gid, nil
}

// Chown gives the socket file of a listener that a reload keeps the mode and owner of its new
// configuration. It returns a function that restores the old ones.
func Chown(c config.Change[config.Listener]) (restore func(), err error) {
	was, will := c.Old, c.New
	if will.Network != "unix" || was.Mode == will.Mode && was.Owner == will.Owner && was.Group == will.Group {
		return func() {}, nil
	}
	info, err := os.Stat(will.Address)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", will.Name, err)
	}
	restore = func() {
		_ = os.Chmod(will.Address, info.Mode().Perm())
		if own, ok := info.Sys().(*syscall.Stat_t); ok {
			_ = os.Chown(will.Address, int(own.Uid), int(own.Gid))
		}
	}
	if err := setAccess(will.Address, will); err != nil {
		restore() // the mode may have been set
		return nil, fmt.Errorf("listener %q: %w", will.Name, err)
	}
	return restore, nil
}

// setAccess sets mode and owner of a socket file; an owner that is not configured is that of the
// process.
func setAccess(path string, cfg config.Listener) error {
	uid, gid, err := lookupOwner(cfg.Owner, cfg.Group)
	if err != nil {
		return err
	}
	if uid == -1 {
		uid = os.Geteuid()
	}
	if gid == -1 {
		gid = os.Getegid()
	}
	if err := os.Chmod(path, cfg.Mode); err != nil { // first: afterwards the file may not be ours
		return fmt.Errorf("set mode of socket: %w", err)
	}
	return chown(path, uid, gid)
}
