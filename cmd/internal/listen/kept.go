package listen

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"postern/cmd/internal/systemd"
	"postern/internal/config"
)

// KeptName returns the name under which a listener that postern has opened goes to the next process. It
// stands for the address and, of a socket file, for the file with its mode and owner, so that the name
// is another one if the configuration or the file has changed meanwhile.
func KeptName(cfg config.Listener) (string, error) {
	what := []any{cfg.Network, cfg.Address}
	switch {
	case cfg.Network == "unix":
		info, err := os.Lstat(cfg.Address)
		if err != nil {
			return "", err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || info.Mode()&fs.ModeSocket == 0 {
			return "", fmt.Errorf("%s is no socket any more", cfg.Address)
		}
		what = append(what, cfg.Mode, cfg.Owner, cfg.Group, stat.Dev, stat.Ino, stat.Mode, stat.Uid, stat.Gid, info.ModTime().UnixNano())
	case strings.HasSuffix(cfg.Address, ":0"): // there may be several
		what = append(what, cfg.Name)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", fmt.Sprintln(what...)))
	return fmt.Sprintf("%s%x", systemd.KeptListener, sum[:16]), nil
}

// TakeKept gives the endpoints the sockets that a former process has kept for them. The others are
// returned.
func TakeKept(list []Endpoint, kept []*os.File) (left []*os.File) {
	byName := make(map[string]*os.File)
	for _, f := range kept {
		if byName[f.Name()] != nil || !listens(f) {
			left = append(left, f)
			continue
		}
		byName[f.Name()] = f
	}
	for i := range list {
		if list[i].Passed != nil {
			continue
		}
		if name, err := KeptName(list[i].Listener); err == nil && byName[name] != nil {
			list[i].Kept = byName[name]
			delete(byName, name)
		}
	}
	for _, f := range byName {
		left = append(left, f)
	}
	return left
}

func listens(f *os.File) (yes bool) {
	raw, err := f.SyscallConn()
	return err == nil && raw.Control(func(fd uintptr) { yes = systemd.Listening(int(fd)) == nil }) == nil && yes
}

// openKept opens an endpoint on the socket that was kept for it.
func (e Endpoint) openKept() (net.Listener, error) {
	defer e.Kept.Close()
	l, err := net.FileListener(e.Kept)
	if err != nil {
		return nil, fmt.Errorf("listener %q: the socket of the former process: %w", e.Name, err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return l, nil
	}
	own, err := os.Lstat(e.Address)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listener %q: %w", e.Name, err)
	}
	k := &unixListener{UnixListener: u, path: e.Address, own: own}
	k.kept.Store(true)
	return k, nil
}

// SetKept says whether the socket file of a listener stays when the listener is closed, since another
// process has the socket, too.
func SetKept(l net.Listener, kept bool) {
	if u, ok := l.(*unixListener); ok {
		u.kept.Store(kept)
	}
}
