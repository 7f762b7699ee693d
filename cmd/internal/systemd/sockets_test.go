package systemd

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// base is the number of the first descriptor that the tests pass; systemd passes them from 3 on.
const base = 200

// pass duplicates the files to the descriptors from base on and sets the LISTEN_ variables.
func pass(t *testing.T, pid int, names string, files ...*os.File) {
	t.Helper()
	for i, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { err = unix.Dup2(int(fd), base+i) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(base + i) })
	}
	t.Setenv("LISTEN_PID", strconv.Itoa(pid))
	t.Setenv("LISTEN_FDS", strconv.Itoa(len(files)))
	t.Setenv("LISTEN_FDNAMES", names)
}

// file returns the descriptor of a listener or connection.
func file(t *testing.T, of interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := of.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestSockets(t *testing.T) {
	tcp := listen(t, "tcp", "127.0.0.1:0").(*net.TCPListener)
	path := filepath.Join(t.TempDir(), "mux")
	mux := listen(t, "unix", path).(*net.UnixListener)
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	packets, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	pass(t, os.Getpid(), "ejabberd:connection:saslauthd:packets:null:postern-memory",
		file(t, tcp), file(t, client.(*net.UnixConn)), file(t, mux), file(t, packets), null, null)
	sockets, kept, problems := socketsFrom(base)
	if len(kept) != 1 || kept[0].Name() != KeptMemory {
		t.Errorf("kept: %v", kept)
	}
	if len(sockets) != 2 || sockets[0].Name != "ejabberd" || sockets[0].Network != "tcp" || sockets[0].Address != tcp.Addr().String() ||
		sockets[1].Name != "saslauthd" || sockets[1].Network != "unix" || sockets[1].Address != path {
		t.Fatalf("%v", sockets)
	}
	for i, want := range []string{`descriptor 201 ("connection") from systemd does not listen`, `("packets") from systemd is not a stream socket`,
		`("null") from systemd is not a socket`} {
		if len(problems) != 3 || !strings.Contains(problems[i].Error(), want) {
			t.Errorf("%v; want %s", problems, want)
		}
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if v, ok := os.LookupEnv(name); ok {
			t.Errorf("a child would see %s=%s", name, v)
		}
	}
	for i := range 5 {
		if flags, err := unix.FcntlInt(uintptr(base+i), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("a child would inherit descriptor %d", base+i)
		}
	}
	// The listener can be opened and closed repeatedly: the socket's file and backlog stay.
	for range 3 {
		l, err := sockets[1].Listen()
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		defer c.Close()
	}
	l, err := sockets[1].Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 4 { // with client, the first in the backlog
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

// Variables for another process and invalid ones pass no sockets, and are unset.
func TestNoSockets(t *testing.T) {
	tcp := file(t, listen(t, "tcp", "127.0.0.1:0").(*net.TCPListener))
	for name, c := range map[string]struct {
		pid, count, names string
		sockets           int
		problem           string
	}{
		"none":        {"", "", "", 0, ""},
		"of another":  {strconv.Itoa(os.Getpid() + 1), "1", "x", 0, ""},
		"no pid":      {"", "1", "x", 0, ""},
		"zero":        {strconv.Itoa(os.Getpid()), "0", "", 0, ""},
		"no number":   {strconv.Itoa(os.Getpid()), "x", "x", 0, "not a valid number of sockets"},
		"negative":    {strconv.Itoa(os.Getpid()), "-1", "x", 0, "not a valid number of sockets"},
		"huge":        {strconv.Itoa(os.Getpid()), "2147483647", "x", 0, "not a valid number of sockets"},
		"more":        {strconv.Itoa(os.Getpid()), "2", "x:y", 1, `descriptor 201 ("y") from systemd is not a socket`},
		"names short": {strconv.Itoa(os.Getpid()), "1", "", 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pass(t, os.Getpid(), "", tcp)
			t.Setenv("LISTEN_PID", c.pid)
			t.Setenv("LISTEN_FDS", c.count)
			t.Setenv("LISTEN_FDNAMES", c.names)
			sockets, _, problems := socketsFrom(base)
			if len(sockets) != c.sockets || (c.problem == "") != (len(problems) == 0) ||
				c.problem != "" && !strings.Contains(problems[0].Error(), c.problem) {
				t.Errorf("%v, %v", sockets, problems)
			}
			if os.Getenv("LISTEN_PID")+os.Getenv("LISTEN_FDS") != "" {
				t.Error("the variables are still there")
			}
			for _, s := range sockets { // pass closes base
				_ = s.file.Close()
			}
		})
	}
	pass(t, os.Getpid(), "", tcp)
	_ = os.Unsetenv("LISTEN_FDNAMES") // as of systemd before 227
	if sockets, _, _ := socketsFrom(base); len(sockets) != 1 || sockets[0].Name != "unknown" {
		t.Errorf("without names: %v", sockets)
	}
}
