//go:build darwin || freebsd

package backend

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// rootPlace is openPlace for root. This system cannot open a file below a directory that is open, so
// all directories of the path must be root's: another user could exchange theirs.
func rootPlace(path string) (place, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return place{}, fmt.Errorf("users file: %w", err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return place{}, fmt.Errorf("users file: %w", err)
	}
	for above := dir; ; above = filepath.Dir(above) {
		info, err := os.Lstat(above)
		if err != nil {
			return place{}, fmt.Errorf("users file: %w", err)
		}
		if own, ok := info.Sys().(*syscall.Stat_t); !ok || own.Uid != 0 {
			return place{}, fmt.Errorf("users file: %s: %w", above, errLink)
		}
		if above == filepath.Dir(above) {
			break
		}
	}
	file := filepath.Join(dir, filepath.Base(path))
	if info, err := os.Lstat(file); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return place{}, fmt.Errorf("users file: %s: %w", file, errLink)
	}
	return place{file, file + ".lock", func() {}}, nil
}

// changeTime is when the metadata of a file changed.
func changeTime(stat *syscall.Stat_t) syscall.Timespec { return stat.Ctimespec }
