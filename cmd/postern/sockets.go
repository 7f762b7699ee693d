package main

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
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/config"
)

// dialPatience is how long a socket file's owner may take to show that it is alive.
const dialPatience = time.Second

// openSocket opens a listener's endpoint.
func openSocket(cfg config.Listener) (net.Listener, error) {
	if cfg.Network != "unix" {
		l, err := net.Listen(cfg.Network, cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("listener %q: %w: %s", cfg.Name, err, listenCure(err))
		}
		deepen(l)
		return l, nil
	}
	l, err := listenUnix(cfg.Address, cfg.Mode, cfg.Owner, cfg.Group)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", cfg.Name, err)
	}
	deepen(l.UnixListener)
	return l, nil
}

// backlog is how many connections may wait to be accepted; the kernel lowers it to somaxconn.
const backlog = 4096

// deepen sets a listener's backlog. Go takes that from a file in /proc that the sandbox of the
// systemd unit hides, and without it 128, which a burst of logins fills.
func deepen(l any) {
	conn, ok := l.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Listen(int(fd), backlog) })
	}
}

// listenCure says what to do about an address on which postern cannot listen.
func listenCure(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop the program that listens there, or choose another address"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 need root or CAP_NET_BIND_SERVICE"
	}
	return "check the address"
}

// unixListener removes its socket file when it is closed, if the file is still its own.
type unixListener struct {
	*net.UnixListener
	path string
	own  fs.FileInfo
	once sync.Once
}

// Close implements net.Listener.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.own) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

// listenUnix listens on a socket file with the given mode and ownership. The file appears
// under its name only when both are set, so that nobody connects too early; a file that is
// there already is replaced only if it is a socket on which nobody listens.
func listenUnix(path string, mode fs.FileMode, owner, group string) (*unixListener, error) {
	uid, gid, err := ownership(owner, group)
	if err != nil {
		return nil, err
	}
	if err := checkStale(path); err != nil {
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
	return &unixListener{UnixListener: l, path: path, own: own}, nil
}

// listenPrivate listens on a socket of a directory whose lock this process holds: one that is there
// was left behind, by whatever user, so that perhaps we may not even ask whether somebody listens.
func listenPrivate(path string) (*unixListener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := listenUnix(path, 0o600, "", "")
	if err == nil {
		deepen(l.UnixListener)
	}
	return l, err
}

func publish(temp, path string, mode fs.FileMode, uid, gid int) (fs.FileInfo, error) {
	if uid != -1 || gid != -1 {
		if err := os.Chown(temp, uid, gid); err != nil {
			return nil, fmt.Errorf("set owner of socket (postern must run as root, or as a member of the group): %w", err)
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

// checkStale reports why path must not be replaced by a new socket.
func checkStale(path string) error {
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
	c, err := net.DialTimeout("unix", path, dialPatience)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("somebody listens on %s already: stop that program first", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist): // by now
		return nil
	}
	// A busy owner, or one that we may not ask, is still there.
	return fmt.Errorf("somebody may be listening on %s: %w: stop that program first, or remove the file if there is none", path, err)
}

// ownership resolves names or numbers; -1 keeps what the process has.
func ownership(owner, group string) (uid, gid int, err error) {
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

// splitAddress returns host and port of an address that is known to be valid.
func splitAddress(address string) (host, port string) {
	host, port, _ = net.SplitHostPort(address)
	return host, port
}

// chown gives the file of a Unix socket that stays the mode and ownership that its listener has
// by now, and returns what takes that back.
func chown(c config.Change[config.Listener]) (back func(), err error) {
	was, will := c.Old, c.New
	if will.Network != "unix" || was.Mode == will.Mode && was.Owner == will.Owner && was.Group == will.Group {
		return func() {}, nil
	}
	info, err := os.Stat(will.Address)
	if err != nil {
		return nil, fmt.Errorf("listener %q: %w", will.Name, err)
	}
	back = func() {
		_ = os.Chmod(will.Address, info.Mode().Perm())
		if own, ok := info.Sys().(*syscall.Stat_t); ok {
			_ = os.Chown(will.Address, int(own.Uid), int(own.Gid))
		}
	}
	if err := setAccess(will.Address, will); err != nil {
		back() // the half that was done
		return nil, fmt.Errorf("listener %q: %w", will.Name, err)
	}
	return back, nil
}

// setAccess sets mode and ownership of a socket file; those that are not configured are the
// process's own.
func setAccess(path string, cfg config.Listener) error {
	uid, gid, err := ownership(cfg.Owner, cfg.Group)
	if err != nil {
		return err
	}
	if uid == -1 {
		uid = os.Geteuid()
	}
	if gid == -1 {
		gid = os.Getegid()
	}
	if err := os.Chmod(path, cfg.Mode); err != nil { // first: the new owner may be another
		return fmt.Errorf("set mode of socket: %w", err)
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return fmt.Errorf("set owner of socket (postern must run as root, or as a member of the group): %w", err)
	}
	return nil
}
