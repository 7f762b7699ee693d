package filelock_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/filelock"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestLock: an exclusive lock excludes all others until its file is closed, and a shared one only
// exclusive locks.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, second, third := open(t, path), open(t, path), open(t, path)
	if err := filelock.TryLock(first); err != nil {
		t.Fatal(err)
	}
	if err := filelock.TryLock(second); !errors.Is(err, filelock.ErrLocked) {
		t.Errorf("second exclusive lock: %v", err)
	}
	if err := filelock.TryRLock(second); !errors.Is(err, filelock.ErrLocked) {
		t.Errorf("shared lock beside an exclusive one: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := filelock.Lock(ctx, second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for the lock: %v", err)
	}
	done := make(chan error)
	go func() { done <- filelock.Lock(t.Context(), second) }()
	first.Close()
	if err := <-done; err != nil {
		t.Errorf("after the first is closed: %v", err)
	}
	second.Close()
	fourth := open(t, path)
	if err := errors.Join(filelock.TryRLock(third), filelock.TryRLock(fourth)); err != nil {
		t.Errorf("two shared locks: %v", err)
	}
	if err := filelock.TryLock(open(t, path)); !errors.Is(err, filelock.ErrLocked) {
		t.Errorf("exclusive lock beside shared ones: %v", err)
	}
}

// TestLockClosed: a file that is closed cannot be locked, which is not ErrLocked.
func TestLockClosed(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "lock"))
	f.Close()
	if err := filelock.Lock(t.Context(), f); err == nil || errors.Is(err, filelock.ErrLocked) {
		t.Errorf("error %v", err)
	}
}
