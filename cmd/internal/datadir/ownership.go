package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Files that root makes in a data directory, as a daemon that is tried out or as a command that
// finds no daemon, must be usable by the daemon that runs as the directory's owner.

// ownerFor returns the uid and gid for files that root makes in dir: the directory's owner or,
// where that is root, the user of the service. found is false if this process is not root, or
// there is no such user.
func ownerFor(dir string) (uid, gid int, found bool) {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return 0, 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && stat.Uid == 0 {
		return ServiceUser()
	}
	return int(stat.Uid), int(stat.Gid), ok
}

// ServiceUserName is the user that the installed service runs as.
const ServiceUserName = "postern"

// ServiceUserExists reports whether this machine has the user of the service.
func ServiceUserExists() bool {
	_, err := user.Lookup(ServiceUserName)
	return err == nil
}

// ServiceUser returns the user that the installed service runs as. found is false if there is
// none, or this process is not root and so cannot give files to it.
func ServiceUser() (uid, gid int, found bool) {
	u, err := user.Lookup(ServiceUserName)
	if err != nil || os.Geteuid() != 0 {
		return 0, 0, false
	}
	uid, errU := strconv.Atoi(u.Uid)
	gid, errG := strconv.Atoi(u.Gid)
	return uid, gid, errU == nil && errG == nil
}

// GiveToOwner gives the store and the lock of a data directory to the user of ownerFor, if this
// process is root. That user cannot redirect it to files elsewhere by symbolic links.
func GiveToOwner(dir string) error {
	uid, gid, found := ownerFor(dir)
	if !found {
		return nil
	}
	kept := Store(dir)
	err := give(dir, uid, gid, ".", LockFile, filepath.Base(kept))
	if target := rootsLink(kept); target != "" {
		err = errors.Join(err, give(target, uid, gid))
	}
	if err != nil {
		return fmt.Errorf("the daemon may be unable to use what was written: %w: chown -R %d:%d %s", err, uid, gid, dir)
	}
	return nil
}

// rootsLink returns the target of a symbolic link that root has made, such as one to a larger
// disk; "" if path is no such link.
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

// give changes the owner of the files of a directory, or only of those below some of its
// entries. Symbolic links keep their owner, which shows whether root has made them.
func give(dir string, uid, gid int, only ...string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		top, _, _ := strings.Cut(path, "/")
		switch {
		case errors.Is(err, fs.ErrNotExist): // a daemon has started meanwhile
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

// Owner returns the uid of the user that a data directory belongs to; ok is false if that is not known.
func Owner(dir string) (uid int, ok bool) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}

// Closed reports whether a directory, and no link to one, belongs to a user, and other users cannot change
// what is in it.
func Closed(dir string, uid int) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	owner, ok := Owner(dir)
	return ok && owner == uid
}

// UserName returns the name of a user, or the number if there is none.
func UserName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}
