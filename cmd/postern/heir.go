package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"postern/internal/config"
)

// What root makes in a data directory, as a daemon that is tried out by hand or as a command that
// finds none, must be of use to the daemon that runs as the directory's owner.

// heir is to whom belongs what root makes in a data directory: to the directory's owner, or to
// the daemon's user where that is root.
func heir(dir string) (uid, gid int, found bool) {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return 0, 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && stat.Uid == 0 {
		return serviceUser()
	}
	return int(stat.Uid), int(stat.Gid), ok
}

// ownAlike gives what root has made in a data directory to whom it belongs: for the daemon that
// runs as that user. That user cannot lead it out of the directory by links.
func ownAlike(cfg *config.Config) error {
	uid, gid, found := heir(cfg.DataDir)
	if !found {
		return nil
	}
	kept := storeDir(cfg)
	err := give(cfg.DataDir, uid, gid, ".", ownerLock, filepath.Base(kept))
	if target := rootsLink(kept); target != "" {
		err = errors.Join(err, give(target, uid, gid))
	}
	if err != nil {
		return fmt.Errorf("the daemon may be unable to use what was written: %w: chown -R %d:%d %s", err, uid, gid, cfg.DataDir)
	}
	return nil
}

// rootsLink is where a symbolic link leads that root has made, as to a larger disk; "" if it is
// none.
func rootsLink(path string) string {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return ""
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != 0 {
		return ""
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	return target
}

// give makes the files of a directory, or only those below some of its entries, another user's.
// Symbolic links stay whose they are, which tells who has made them.
func give(dir string, uid, gid int, only ...string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		top, _, _ := strings.Cut(path, "/")
		switch {
		case errors.Is(err, fs.ErrNotExist): // a daemon has started
			return nil
		case err != nil:
			return err
		case only != nil && !slices.Contains(only, top):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.Type()&fs.ModeSymlink != 0:
			return nil
		}
		if err := root.Lchown(path, uid, gid); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}
