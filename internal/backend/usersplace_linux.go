package backend

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may have.
const maxLinks = 40

// rootPlace is openPlace for root. The directories are opened one by one, so that none of them can be
// exchanged meanwhile.
func rootPlace(path string) (place, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return place{}, fmt.Errorf("users file: %w", err)
	}
	w := walker{}
	dir, err := w.open(filepath.Dir(path))
	if err != nil {
		return place{}, fmt.Errorf("users file: %w", err)
	}
	base := filepath.Base(path)
	p := place{"", below(dir, base+".lock"), w.close}
	for {
		target, err := w.link(dir, base)
		if err == nil && target == "" {
			p.file = below(dir, base)
			return p, nil
		}
		if err == nil {
			if target = strings.TrimRight(target, "/"); !filepath.IsAbs(target) {
				dir, err = w.openIn(dir, filepath.Dir(target))
			} else {
				dir, err = w.open(filepath.Dir(target))
			}
			base = filepath.Base(target)
		}
		if err != nil {
			w.close()
			return place{}, fmt.Errorf("users file: %w", err)
		}
	}
}

// below is the path of a name in an open directory.
func below(dir int, name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", dir, name) }

// walker opens directories for root.
type walker struct {
	opened []int
	links  int
}

func (w *walker) close() {
	for _, fd := range w.opened {
		_ = unix.Close(fd)
	}
}

// open opens the directory at an absolute path.
func (w *walker) open(path string) (int, error) {
	top, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	w.opened = append(w.opened, top)
	return w.openIn(top, path)
}

// openIn opens the directory at a path that begins in another one.
func (w *walker) openIn(dir int, path string) (int, error) {
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		target, err := w.link(dir, name)
		switch {
		case err != nil:
			return 0, err
		case target != "" && filepath.IsAbs(target):
			dir, err = w.open(target)
		case target != "":
			dir, err = w.openIn(dir, target)
		default:
			dir, err = unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err == nil {
				w.opened = append(w.opened, dir)
			}
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	return dir, nil
}

// link returns where a name in a directory leads if it is a symbolic link of root's; "" if it is none,
// or does not exist. One of another user is an error.
func (w *walker) link(dir int, name string) (target string, err error) {
	var info unix.Stat_t
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &info); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if info.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", nil
	}
	if w.links++; w.links > maxLinks {
		return "", fmt.Errorf("%s: %w", name, unix.ELOOP)
	}
	if info.Uid != 0 {
		return "", fmt.Errorf("%s: %w", name, errLink)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil || n == 0 {
		return "", fmt.Errorf("%s: %w", name, errors.Join(os.ErrInvalid, err))
	}
	return string(buf[:n]), nil
}

// changeTime is when the metadata of a file changed.
func changeTime(stat *syscall.Stat_t) syscall.Timespec { return stat.Ctim }
