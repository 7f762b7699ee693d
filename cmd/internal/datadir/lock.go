package datadir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"postern/internal/filelock"
)

// Times of Lock.
const (
	lockPoll = 5 * time.Millisecond
	lockWait = 15 * time.Second // for an owner that was asked to yield
)

// ErrOwned means that a daemon owns the data directory and keeps it.
var ErrOwned = errors.New("stop it first")

// Yield asks the owner behind a control socket to end. A broker that pipes have started does so;
// a daemon does not, and yields is false.
type Yield func(ctx context.Context, socket string) (yields bool, pid int, err error)

// Lock makes this process the owner of a directory until the returned file is closed; the
// directory is made if it is missing. fd is a descriptor of the lock file on which the lock is
// held already, or 0. The error wraps ErrOwned if the owner does not yield.
func Lock(ctx context.Context, dir string, fd int, yield Yield) (*os.File, error) {
	lock, err := openLock(dir, fd)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPoll) {
		err := filelock.TryLock(lock)
		if err == nil {
			break
		}
		if !errors.Is(err, filelock.ErrLocked) {
			_ = lock.Close()
			return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		yields, pid, err := yield(ctx, filepath.Join(dir, ControlSocket))
		if err == nil && !yields || time.Now().After(end) {
			_ = lock.Close()
			if pid == 0 {
				return nil, fmt.Errorf("another postern holds %s and does not answer: stop the other postern first", lock.Name())
			}
			return nil, fmt.Errorf("another postern (process %d) owns the data directory %s: %w", pid, dir, ErrOwned)
		}
	}
	syscall.CloseOnExec(int(lock.Fd()))
	if err := lock.Truncate(0); err == nil {
		_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return lock, nil
}

// TryLock is Lock for a directory without an owner: it fails at once if there is one.
func TryLock(dir string) (*os.File, error) {
	lock, err := openLock(dir, 0)
	if err != nil {
		return nil, err
	}
	if err := filelock.TryLock(lock); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return lock, nil
}

// Owned reports whether a directory has an owner.
func Owned(dir string) bool {
	lock, err := os.Open(filepath.Join(dir, LockFile))
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(filelock.TryRLock(lock), filelock.ErrLocked)
}

func openLock(dir string, fd int) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if fd == 0 {
		lock, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
		if uid, gid, found := ownerFor(dir); found {
			_ = lock.Chown(uid, gid) // at once: the daemon must be able to start even if this process is killed
		}
		return lock, nil
	}
	lock := os.NewFile(uintptr(fd), LockFile)
	if lock == nil {
		return nil, fmt.Errorf("--lock-fd %d is not an open file", fd)
	}
	return lock, nil
}
