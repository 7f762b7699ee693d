package daemon

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// TestServeOverLeftovers: if the lock of a data directory is free, its sockets are left over and
// are replaced, whatever a connection to them returns. One of another user's process does not even
// accept a connection.
func TestServeOverLeftovers(t *testing.T) {
	dir := t.TempDir()
	config := harness.ConfigFile(t, dir, harness.OneList+harness.UsersBase)
	for _, name := range []string{harness.ControlSocket, harness.RelaySocket} {
		harness.DatagramSocket(t, filepath.Join(dir, name)) // connecting fails, but not for want of a listener
	}
	harness.Serve(t, "--config", config)
	harness.OK(t, "", "cache", "stats", "--config", config)
}

// The daemon's own sockets are for its user alone, and none of its sockets outlives it.
func TestDaemonSockets(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	config := harness.ConfigFile(t, data, harness.UsersConfig)
	s := harness.Serve(t, "--config", config)
	for name, mode := range map[string]fs.FileMode{"": fs.ModeDir | 0o700, "control.sock": fs.ModeSocket | 0o600,
		"relay.sock": fs.ModeSocket | 0o600, "mux": fs.ModeSocket | 0o600} {
		if info, err := os.Stat(filepath.Join(data, name)); err != nil {
			t.Error(err)
		} else if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
	if code := s.Stop(syscall.SIGTERM); code != 0 {
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
	s = harness.Serve(t, "--config", config)
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	s = harness.Serve(t, "--config", config)
	if got := harness.Exchange(t, s.Address("saslauthd"), harness.Fields("ann", "secret", "imap", "dom.example")); got != harness.Frame("NO authentication failed") {
		t.Errorf("after a kill: answered %q", got)
	}
}

// A second daemon on the same data directory does not start, and does not disturb the first.
func TestSecondDaemon(t *testing.T) {
	s, config := harness.UsersServer(t)
	c := harness.Connect(t, s.Address("generic"))
	harness.Say(t, c, "auth:joe:dom.example:secret\n", "1\n")
	r := harness.Command(t, "", "serve", "--config", config)
	if r.Code != 1 || !strings.Contains(r.Err, "owns the data directory") || !strings.Contains(r.Err, "stop it first") ||
		!strings.Contains(r.Err, fmt.Sprintf("process %d)", s.Cmd.Process.Pid)) {
		t.Errorf("the second: exit status %d, %q", r.Code, r.Err)
	}
	harness.Say(t, c, "auth:joe:dom.example:secret\n", "1\n")
	harness.OK(t, "secret", "test", "auth", "joe@dom.example", "--config", config)
	if got := harness.Exchange(t, s.Address("saslauthd"), harness.Fields("joe", "secret", "imap", "")); got != harness.Frame("OK success") {
		t.Errorf("the first one's socket: %q", got)
	}
}

// An address that is in use is reported under the listener's name, and what was opened before is
// closed again.
func TestAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	data := t.TempDir()
	mux := filepath.Join(data, "mux")
	harness.WriteFile(t, filepath.Join(data, "regular"), "")
	for name, c := range map[string]struct{ address, want string }{
		"port":   {taken.Addr().String(), "stop the program that listens there, or choose another address"},
		"socket": {"unix:regular", "move it away"},
		"host":   {"192.0.2.1:23662", "check the address"}, // TEST-NET-1 is no address of any machine
	} {
		config := harness.ConfigFile(t, data, harness.PipeConfig+"listen \"saslauthd\" { address = \"unix:mux\" }\n"+
			"listen \"second\" {\n  protocol = \"generic\"\n  address  = \""+c.address+"\"\n}\n")
		r := harness.Command(t, "", "serve", "--config", config)
		if r.Code != 1 || !strings.Contains(r.Err, `listener "second"`) || !strings.Contains(r.Err, c.want) {
			t.Errorf("%s: exit status %d, %q", name, r.Code, r.Err)
		}
		if strings.Contains(r.Err, "msg=ready") {
			t.Errorf("%s: it was ready all the same", name)
		}
		for _, socket := range []string{mux, filepath.Join(data, "control.sock")} {
			if _, err := os.Lstat(socket); err == nil {
				t.Errorf("%s: %s was left behind", name, socket)
			}
		}
	}
}
