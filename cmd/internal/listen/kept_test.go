package listen

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"postern/internal/config"
)

// keep returns a descriptor of an open listener as the next process gets it.
func keep(t *testing.T, cfg config.Listener, l net.Listener) *os.File {
	t.Helper()
	name, err := KeptName(cfg)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	_ = raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

// TestKept: the next process goes on with a socket, with the connections that wait there, if the listener
// and the socket file are the same.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	tcp := config.Listener{Name: "a", Network: "tcp", Address: "127.0.0.1:0"}
	file := config.Listener{Name: "b", Network: "unix", Address: filepath.Join(dir, "mux"), Mode: 0o600}
	other := file
	other.Mode = 0o660
	moved := tcp
	moved.Address = "localhost:1"
	for name, c := range map[string]struct {
		was, now config.Listener
		change   func()
		kept     bool
	}{
		"tcp":                 {tcp, tcp, func() {}, true},
		"another address":     {tcp, moved, func() {}, false},
		"socket file":         {file, file, func() {}, true},
		"another mode":        {file, other, func() {}, false},
		"a changed file":      {file, file, func() { _ = os.Chmod(file.Address, 0o666) }, false},
		"a removed file":      {file, file, func() { _ = os.Remove(file.Address) }, false},
		"another socket file": {file, file, func() { _ = os.Remove(file.Address); _ = os.WriteFile(file.Address, nil, 0o600) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(file.Address)
			l, err := Open(c.was)
			if err != nil {
				t.Fatal(err)
			}
			kept := keep(t, c.was, l)
			network, address := l.Addr().Network(), ShownAddress(c.was, l)
			SetKept(l, true)
			_ = l.Close()
			waits, err := net.Dial(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer waits.Close()
			c.change()
			list := []Endpoint{{Listener: c.now}}
			left := TakeKept(list, []*os.File{kept})
			if (len(left) == 0) != c.kept || (list[0].Kept != nil) != c.kept {
				t.Fatalf("left: %d", len(left))
			}
			if !c.kept {
				_ = left[0].Close()
				return
			}
			again, err := list[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			conn, err := again.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			SetKept(again, false)
			_ = again.Close()
			if _, err := os.Lstat(file.Address); err == nil && c.was.Network == "unix" {
				t.Error("the socket file is still there")
			}
		})
	}
}

// TestKeptForeign: what does not listen, or is there twice, is not taken.
func TestKeptForeign(t *testing.T) {
	cfg := config.Listener{Name: "a", Network: "tcp", Address: "127.0.0.1:0"}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first, second := keep(t, cfg, l), keep(t, cfg, l)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	list := []Endpoint{{Listener: cfg}}
	if left := TakeKept(list, []*os.File{null, first, second}); len(left) != 2 || list[0].Kept != first {
		t.Errorf("left %d", len(left))
	}
	for _, f := range []*os.File{null, first, second} {
		_ = f.Close()
	}
}
