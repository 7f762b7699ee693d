package datadir

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// An owner that yields is waited for; one that does not keeps the directory.
func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	lock, err := Lock(context.Background(), dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, LockFile)); err != nil || string(text) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("the lock file has %q, %v", text, err)
	}
	if !Owned(dir) {
		t.Error("the directory has no owner")
	}
	if second, err := TryLock(dir); err == nil {
		_ = second.Close()
		t.Error("the directory was locked twice")
	}
	stays := func(_ context.Context, socket string) (bool, int, error) {
		if socket != filepath.Join(dir, ControlSocket) {
			t.Errorf("asked %s to yield", socket)
		}
		return false, 4711, nil
	}
	if _, err := Lock(context.Background(), dir, 0, stays); !errors.Is(err, ErrOwned) || !strings.Contains(err.Error(), "process 4711") {
		t.Errorf("beside an owner that stays: %v", err)
	}
	yields := func(context.Context, string) (bool, int, error) { return true, 4711, lock.Close() }
	next, err := Lock(context.Background(), dir, 0, yields)
	if err != nil {
		t.Fatal(err)
	}
	_ = next.Close()
	if Owned(dir) || Owned(filepath.Join(dir, "none")) {
		t.Error("a directory has an owner that is gone")
	}
}

// Where the data directory is of no use, pipes meet in a private directory of its own.
func TestRendezvous(t *testing.T) {
	temp, err := os.MkdirTemp("", "pt") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	t.Setenv("TMPDIR", temp)
	dir := filepath.Join(temp, "data")
	if got, err := Rendezvous(dir); got != dir || err != nil {
		t.Errorf("a usable directory: %s, %v", got, err)
	}
	long := filepath.Join(temp, strings.Repeat("x", longestSocket))
	first, err := Rendezvous(long)
	if err != nil || filepath.Dir(first) != temp {
		t.Fatalf("a long path: %s, %v", first, err)
	}
	if info, err := os.Stat(first); err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("the private directory: %v, %v", info, err)
	}
	if again, err := Rendezvous(long + "/"); again != first || err != nil {
		t.Errorf("the same path again: %s, %v", again, err)
	}
	if other, err := Rendezvous(long + "y"); other == first || err != nil {
		t.Errorf("another path: %s, %v", other, err)
	}
	if err := os.Chmod(first, 0o770); err != nil {
		t.Fatal(err)
	}
	if got, err := Rendezvous(long); err == nil {
		t.Errorf("a directory that is open to others was used: %s", got)
	}
}

// Commands find the control socket in the data directory, and name that if nothing listens there.
func TestControl(t *testing.T) {
	temp, err := os.MkdirTemp("", "pt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	want := filepath.Join(temp, ControlSocket)
	if got := Control(temp); got != want {
		t.Errorf("without an owner: %s", got)
	}
	l, err := net.Listen("unix", want)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := Control(temp); got != want {
		t.Errorf("with an owner: %s", got)
	}
}
