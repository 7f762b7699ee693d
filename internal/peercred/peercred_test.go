package peercred

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The peer of a Unix socket is this process; that of a TCP socket is not known.
func TestOf(t *testing.T) {
	for network, address := range map[string]string{"unix": filepath.Join(t.TempDir(), "s"), "tcp": "127.0.0.1:0"} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := c.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var p Peer
		var failed error
		if err := raw.Control(func(fd uintptr) { p, failed = Of(fd) }); err != nil {
			t.Fatal(err)
		}
		if network == "unix" && (failed != nil || p.UID != os.Getuid() || p.PID != 0 && p.PID != os.Getpid()) {
			t.Errorf("%+v, %v", p, failed)
		}
		if network == "tcp" && failed == nil {
			t.Errorf("a peer over TCP: %+v", p)
		}
	}
}
