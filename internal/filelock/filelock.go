// Package filelock takes advisory locks of whole files (flock(2)). A lock belongs to the open
// file: it ends when the last descriptor of it is closed, at the latest with the process, so that
// a crash leaves none behind. A child that inherits the descriptor holds the lock too. Two opens
// of one file are two owners, even in one process.
//
// A lock file must not be removed: two processes could then hold locks of two files of one name.
package filelock

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// ErrLocked means that another open file holds a lock that excludes the one asked for.
var ErrLocked = errors.New("another process holds the lock")

// TryLock takes the exclusive lock of f without waiting, or returns ErrLocked.
func TryLock(f *os.File) error { return flock(f, syscall.LOCK_EX) }

// TryRLock takes a lock of f that excludes only exclusive ones, or returns ErrLocked.
func TryRLock(f *os.File) error { return flock(f, syscall.LOCK_SH) }

// Lock takes the exclusive lock of f. It waits until ctx ends and then returns the error of ctx.
func Lock(ctx context.Context, f *os.File) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if err := TryLock(f); !errors.Is(err, ErrLocked) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		case !errors.Is(err, syscall.EINTR):
			return os.NewSyscallError("flock", err)
		}
	}
}
