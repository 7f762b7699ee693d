package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
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

// What stands at a socket's path is replaced only if it is a socket on which nobody listens.
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

// TestServeOverLeftovers: the sockets of a data directory whose lock is free are nobody's, whatever
// asking them comes to: that of another user's process cannot even be asked.
func TestServeOverLeftovers(t *testing.T) {
	dir := t.TempDir()
	config := configFile(t, dir, oneList+usersBase)
	for _, name := range []string{controlFile, relayFile} {
		datagramSocket(t, filepath.Join(dir, name)) // connecting fails, but not for want of a listener
	}
	serve(t, "--config", config)
	ok(t, "", "cache", "stats", "--config", config)
}

// A file that is no socket is left alone.
func TestPrivateSocketSparesAFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "precious"), "x")
	if _, err := listenPrivate(filepath.Join(dir, "precious")); err == nil {
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

// busySocket has an owner that lives, but whose queue is full.
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

// datagramSocket has an owner that lives, but to whom one cannot connect.
func datagramSocket(t *testing.T, path string) {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// A socket file goes with its listener, but not one that somebody else has put there since.
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

// The daemon's own sockets are for its user alone, and none of its sockets outlives it.
func TestDaemonSockets(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	config := configFile(t, data, usersConfig)
	s := serve(t, "--config", config)
	for name, mode := range map[string]fs.FileMode{"": fs.ModeDir | 0o700, "control.sock": fs.ModeSocket | 0o600,
		"relay.sock": fs.ModeSocket | 0o600, "mux": fs.ModeSocket | 0o600} {
		if info, err := os.Stat(filepath.Join(data, name)); err != nil {
			t.Error(err)
		} else if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
	left, err := os.ReadDir(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if f.Type() == fs.ModeSocket || strings.HasPrefix(f.Name(), ".") {
			t.Errorf("%s was left behind", f.Name())
		}
	}
	// A killed daemon leaves them; its successor takes their place.
	s = serve(t, "--config", config)
	_ = s.cmd.Process.Kill()
	<-s.ended
	s = serve(t, "--config", config)
	if got := exchange(t, s.address("saslauthd"), fields("ann", "secret", "imap", "dom.example")); got != frame("NO authentication failed") {
		t.Errorf("after a kill: answered %q", got)
	}
}

// A second daemon on the same data directory does not start, and does not disturb the first.
func TestSecondDaemon(t *testing.T) {
	s, config := usersServer(t)
	c := connect(t, s.address("generic"))
	say(t, c, "auth:joe:dom.example:secret\n", "1\n")
	r := command(t, "", "serve", "--config", config)
	if r.code != 1 || !strings.Contains(r.err, "owns the data directory") || !strings.Contains(r.err, "stop it first") ||
		!strings.Contains(r.err, fmt.Sprintf("process %d)", s.cmd.Process.Pid)) {
		t.Errorf("the second: exit status %d, %q", r.code, r.err)
	}
	say(t, c, "auth:joe:dom.example:secret\n", "1\n")
	ok(t, "secret", "test", "auth", "joe@dom.example", "--config", config)
	if got := exchange(t, s.address("saslauthd"), fields("joe", "secret", "imap", "")); got != frame("OK success") {
		t.Errorf("the first one's socket: %q", got)
	}
}

// An address that is in use is complained of under the listener's name; what was opened before
// is closed again.
func TestAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	data := t.TempDir()
	mux := filepath.Join(data, "mux")
	write(t, filepath.Join(data, "regular"), "")
	for name, c := range map[string]struct{ address, want string }{
		"port":   {taken.Addr().String(), "stop the program that listens there, or choose another address"},
		"socket": {"unix:regular", "move it away"},
		"host":   {"192.0.2.1:23662", "check the address"}, // TEST-NET-1 is no address of any machine
	} {
		config := configFile(t, data, pipeConfig+"listen \"saslauthd\" { address = \"unix:mux\" }\n"+
			"listen \"second\" {\n  protocol = \"generic\"\n  address  = \""+c.address+"\"\n}\n")
		r := command(t, "", "serve", "--config", config)
		if r.code != 1 || !strings.Contains(r.err, `listener "second"`) || !strings.Contains(r.err, c.want) {
			t.Errorf("%s: exit status %d, %q", name, r.code, r.err)
		}
		if strings.Contains(r.err, "msg=ready") {
			t.Errorf("%s: it was ready all the same", name)
		}
		for _, socket := range []string{mux, filepath.Join(data, "control.sock")} {
			if _, err := os.Lstat(socket); err == nil {
				t.Errorf("%s: %s was left behind", name, socket)
			}
		}
	}
}

// The dovecot listeners are opened before all others.
func TestDovecotListensFirst(t *testing.T) {
	m := newMail(t)
	var order []string
	for line := range strings.Lines(m.log.String()) {
		if _, rest, listening := strings.Cut(line, "msg=listening listener="); listening {
			name, _, _ := strings.Cut(rest, " ")
			order = append(order, name)
		}
	}
	want := []string{"dovecot", "dovecot-unix", "dovecot-shop", "tcp_table", "socketmap", "saslauthd"}
	if !slices.Equal(order, want) {
		t.Errorf("opened in the order %v, want %v", order, want)
	}
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
	deepen(l)
	if n := waiting(); n < 128 {
		t.Errorf("%d may wait", n)
	}
}
