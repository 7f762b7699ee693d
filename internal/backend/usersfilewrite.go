package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"postern/internal/atomicfile"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/filelock"
)

// usersMode is the mode of a new file: hashes are for postern alone.
const usersMode = 0o600

// change replaces the file by one with another line for id. decide is told whether the
// file has the user, and returns the new hash, or "" to leave the user out. The file is
// read under the lock, so nothing that another process wrote is lost. ctx bounds the
// wait for the lock.
func (f *UsersFile) change(ctx context.Context, id auth.Identity, decide func(known bool) (string, error)) error {
	if err := checkFileName(id); err != nil {
		return err
	}
	path := f.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a rename would replace the link
	}
	owner, err := ownerOf(path)
	if err != nil {
		return err
	}
	unlock, err := lockFile(ctx, f.path+".lock", owner)
	if err != nil {
		return err
	}
	defer unlock()
	data, _, err := readUsersFile(path)
	if err != nil {
		return err
	}
	lines, known := withoutUser(data, id)
	hash, err := decide(known > 0)
	if err != nil {
		return err
	}
	if known > 1 {
		return fmt.Errorf("%w: %s stands in %d lines; remove the wrong ones", ErrBrokenFile, id, known)
	}
	if hash != "" {
		if err := passhash.Check(hash); err != nil {
			return err
		}
		lines = append(lines, id.String()+":"+hash+"\n"...)
	}
	return replaceFile(path, lines, owner)
}

// ownerOf tells whom the file belongs to, or its directory when there is no file. What
// an administrator writes as root must stay postern's.
func ownerOf(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("users file: %w", err)
	}
	return info, nil
}

// withoutUser returns the lines of others, unchanged, and how many the user had.
func withoutUser(data []byte, id auth.Identity) (rest []byte, had int) {
	rest = make([]byte, 0, len(data)+128)
	for line := range bytes.Lines(data) {
		if got, _, _ := parseUser(string(line)); got == id {
			had++
			continue
		}
		rest = append(rest, line...)
	}
	if len(rest) > 0 && rest[len(rest)-1] != '\n' {
		rest = append(rest, '\n')
	}
	return rest, had
}

// lockFile takes the lock at path. It waits until ctx ends.
func lockFile(ctx context.Context, path string, owner os.FileInfo) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, usersMode)
	if err != nil {
		return nil, fmt.Errorf("users file: lock: %w", err)
	}
	_ = giveTo(file, owner) // where that is not allowed, this process may use the file all the same
	if err := filelock.Lock(ctx, file); err != nil {
		file.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("users file: another process keeps %s locked: %w", path, err)
		}
		return nil, fmt.Errorf("users file: lock: %w", err)
	}
	return func() { file.Close() }, nil
}

// replaceFile replaces the file at path. The new file gets the owner of old, which is the old
// file, or its directory if there is none.
func replaceFile(path string, data []byte, old os.FileInfo) error {
	err := atomicfile.Write(path, data, func(temp *os.File) error {
		if err := giveTo(temp, old); err != nil {
			return err
		}
		return temp.Chmod(modeFor(temp, old))
	})
	if err != nil {
		return fmt.Errorf("users file: %w", err)
	}
	return nil
}

// modeFor is the mode of a file that takes the place of another: the other's, so that the daemon
// can read what is root's and open to its group only. No other group than that gets any right.
func modeFor(file *os.File, old os.FileInfo) os.FileMode {
	if !old.Mode().IsRegular() {
		return usersMode
	}
	mode := old.Mode().Perm()
	want, ok := old.Sys().(*syscall.Stat_t)
	var have unix.Stat_t
	if !ok || unix.Fstat(int(file.Fd()), &have) != nil || want.Gid != have.Gid {
		mode &^= 0o070
	}
	return mode
}

// giveTo changes the owner of a file to that of another, if it is not so already.
func giveTo(file *os.File, owner os.FileInfo) error {
	want, ok := owner.Sys().(*syscall.Stat_t)
	var have unix.Stat_t
	if !ok || unix.Fstat(int(file.Fd()), &have) != nil {
		return nil
	}
	if want.Uid == have.Uid && want.Gid == have.Gid {
		return nil
	}
	err := file.Chown(int(want.Uid), int(want.Gid))
	if errors.Is(err, unix.EPERM) && want.Uid == have.Uid {
		return nil // a group that this user is not in
	}
	return err
}
