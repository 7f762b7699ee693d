package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// Permission bits, as in the last digit of a mode.
const (
	mayRead  = 0o4
	mayWrite = 0o2
	mayEnter = 0o1
)

// account is a user with groups. uid -1 stands for any member of the groups.
type account struct {
	uid  int
	gids []int
}

// may reports whether a file's mode and ownership grant an account the permission bits.
func (f File) may(w account, bits fs.FileMode) bool {
	mode := f.Mode.Perm()
	switch {
	case w.uid == 0:
		return true
	case w.uid == f.UID:
		mode >>= 6
	case slices.Contains(w.gids, f.GID):
		mode >>= 3
	}
	return mode&bits == bits
}

// closed returns the first directory of path that an account may not enter, or "". Directories
// that this process cannot examine count as open.
func (e *Env) closed(path string, w account) string {
	blocked := ""
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if f, err := e.Stat(dir); err == nil && !f.may(w, mayEnter) {
			blocked = dir
		}
		if dir == filepath.Dir(dir) {
			return blocked
		}
	}
}

// existing returns path or its nearest parent that exists.
func (e *Env) existing(path string) string {
	for {
		if _, err := e.Stat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// cause removes the path from an error of package os.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// size formats a number of bytes.
func size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
