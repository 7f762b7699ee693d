package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// The permission bits of each class of users, as those of the last.
const (
	mayRead  = 0o4
	mayWrite = 0o2
	mayEnter = 0o1
)

// who is a user, or with uid -1 any member of a group.
type who struct {
	uid  int
	gids []int
}

// ownerOf is the user to whom a file belongs; that of the data directory is whom postern runs as.
func (e *Env) ownerOf(f File) who { return who{f.UID, append(e.Groups(f.UID), f.GID)} }

// may reports whether the mode and ownership of a file let someone do what bits say.
func (f File) may(w who, bits fs.FileMode) bool {
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

// closed returns the first directory on the way to path that someone cannot pass through, or "".
// What cannot be looked at from here counts as open.
func (e *Env) closed(path string, w who) string {
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

// existing returns the nearest directory on the way to path that is there.
func (e *Env) existing(path string) string {
	for {
		if _, err := e.Stat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// cause strips the path from an error of package os, which the text has already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// size writes a number of bytes for people.
func size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
