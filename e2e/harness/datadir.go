package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Names of files in a data directory.
const (
	ControlSocket = "control.sock" // where the commands reach the daemon
	RelaySocket   = "relay.sock"   // where pipes reach the daemon
	OwnerLock     = "owner.lock"   // held by the process that owns the directory; has its number
)

// DataDirOf is the data directory of a configuration that ConfigFile wrote.
func DataDirOf(config string) string {
	_, rest, _ := strings.Cut(ReadText(config), `data_dir = "`)
	dir, _, _ := strings.Cut(rest, `"`)
	return dir
}

// OwnerOf is the process that owns a data directory.
func OwnerOf(t *testing.T, dir string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(ReadText(filepath.Join(dir, OwnerLock))))
	if err != nil {
		t.Fatalf("no process is named in the lock: %v", err)
	}
	return pid
}

// HasOwner reports whether a process owns a data directory.
func HasOwner(dir string) bool {
	lock, err := os.Open(filepath.Join(dir, OwnerLock))
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// Alive reports whether a process runs; a zombie does not.
func Alive(pid int) bool {
	_, rest, found := strings.Cut(ReadText(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	return found && rest[0] != 'Z'
}

// Kill kills the owner of a data directory and waits for its end.
func Kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	WaitFor(t, "the end of the owner", func() bool { return !Alive(pid) })
}

// DatagramSocket is a socket in use that refuses stream connections.
func DatagramSocket(t *testing.T, path string) {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
}
