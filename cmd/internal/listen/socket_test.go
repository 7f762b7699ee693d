package listen

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// listenHere listens on a socket in a directory of the test's own.
func listenHere(t *testing.T, path string, mode fs.FileMode, owner, group string) *unixListener {
	t.Helper()
	l, err := listenUnix(path, mode, owner, group)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestSocketModeAndOwner(t *testing.T) {
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	other, err := user.Lookup("daemon") // Debian's base has it, and the group sasl comes with setup.sh
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroup("sasl")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mode         fs.FileMode
		owner, group string
		uid, gid     string
	}{
		"defaults":   {0o660, "", "", self.Uid, self.Gid},
		"narrow":     {0o600, "", "", self.Uid, self.Gid},
		"wide":       {0o666, "", "", self.Uid, self.Gid},
		"by number":  {0o660, "12345", "23456", "12345", "23456"},
		"by name":    {0o660, "daemon", "sasl", other.Uid, group.Gid},
		"group only": {0o660, "", "sasl", self.Uid, group.Gid},
		"owner only": {0o640, "daemon", "", other.Uid, self.Gid},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "mux")
		listenHere(t, path, c.mode, c.owner, c.group)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != c.mode {
			t.Errorf("%s: %v, %v", name, info, err)
			continue
		}
		stat := info.Sys().(*syscall.Stat_t)
		if uid, gid := strconv.Itoa(int(stat.Uid)), strconv.Itoa(int(stat.Gid)); uid != c.uid || gid != c.gid {
			t.Errorf("%s: owner %s, group %s; want %s and %s", name, uid, gid, c.uid, c.gid)
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Errorf("%s: left behind in the directory: %v", name, files)
		}
	}
	for name, c := range map[string]struct{ owner, group, want string }{
		"owner": {"nobody-of-that-name", "", "owner of socket"},
		"group": {"", "no-group-of-that-name", "group of socket"},
	} {
		path := filepath.Join(t.TempDir(), "mux")
		if _, err := listenUnix(path, 0o660, c.owner, c.group); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("unknown %s: %v", name, err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("unknown %s: there is a socket all the same", name)
		}
	}
}

// A file at a socket's path is replaced only if it is a socket on which no process listens.
func TestSocketReplaces(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(t *testing.T, path string)
		want string // part of the error; empty: it is replaced
	}{
		"nothing":     {func(*testing.T, string) {}, ""},
		"no folder":   {func(t *testing.T, path string) { remove(t, filepath.Dir(path)) }, ""},
		"stale":       {staleSocket, ""},
		"live":        {func(t *testing.T, path string) { listenHere(t, path, 0o600, "", "") }, "stop that program first"},
		"busy":        {busySocket, "remove the file if there is none"},
		"datagrams":   {datagramSocket, "remove the file if there is none"},
		"file":        {func(t *testing.T, path string) { write(t, path, "precious") }, "move it away"},
		"empty file":  {func(t *testing.T, path string) { write(t, path, "") }, "move it away"},
		"folder":      {func(t *testing.T, path string) { mkdir(t, path) }, "move it away"},
		"link":        {func(t *testing.T, path string) { write(t, path+"x", "precious"); link(t, path+"x", path) }, "move it away"},
		"below files": {func(t *testing.T, path string) { remove(t, filepath.Dir(path)); write(t, filepath.Dir(path), "") }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "run", "mux")
			mkdir(t, filepath.Dir(path))
			c.put(t, path)
			before, _ := os.Lstat(path)
			l, err := listenUnix(path, 0o600, "", "")
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				c, err := net.Dial("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				_ = c.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("listened, %v", err)
			}
			if after, _ := os.Lstat(path); before != nil && !os.SameFile(before, after) {
				t.Error("it was replaced")
			}
		})
	}
}

// A file that is not a socket is not touched.
func TestPrivateSocketSparesAFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "precious"), "x")
	if _, err := Private(filepath.Join(dir, "precious")); err == nil {
		t.Error("a file was taken for a socket")
	}
}

// staleSocket leaves a socket file behind, as a killed process does.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

// busySocket makes a socket with a full backlog.
func busySocket(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := net.Dial("unix", path)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// Closing a listener removes its socket file, but not the file of another listener at that path.
func TestSocketRemoval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mux")
	l := listenHere(t, path, 0o600, "", "")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket file is still there")
	}
	l = listenHere(t, path, 0o600, "", "")
	remove(t, path)
	successor := listenHere(t, path, 0o600, "", "")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the successor's socket is gone: %v", err)
	}
	_ = c.Close()
	_ = l.Close() // once more does not matter
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	_ = successor.Close()
}

// However Go chose the backlog, as many connections may wait as the kernel allows.
func TestBacklog(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	waiting := func() (most uint32) {
		_ = raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Fatal(err)
			}
			most = info.Sacked // of a socket that listens: its backlog
		})
		return most
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.Listen(int(fd), 5) })
	if n := waiting(); n != 5 {
		t.Fatalf("%d may wait, want 5", n)
	}
	raiseBacklog(l)
	if n := waiting(); n < 128 {
		t.Errorf("%d may wait", n)
	}
}
