package pipes

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

const setJoe = "setpass:joe:dom.example:changed\n"

// A pipe may change accounts, as its peer has started it, but not under inetd, where any program may
// have connected: neither through a daemon nor through a broker of its own.
func TestPipeChanges(t *testing.T) {
	for _, broker := range []string{"started by the pipe", "daemon"} {
		config, data := harness.PipeUsers(t, "")
		if broker == "daemon" {
			harness.Serve(t, "--config", config)
		}
		socket := filepath.Join(data, harness.RelaySocket)
		for _, way := range [][]string{{"--config", config}, {"--socket", socket}} {
			if broker != "daemon" && way[0] == "--socket" {
				continue
			}
			l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			inetd(t, l, append([]string{"pipe", "--protocol", "generic"}, way...)...)
			c := harness.Connect(t, l.Addr().String())
			harness.Say(t, c, setJoe, "0\n")
			harness.Say(t, c, harness.JoeLine, "1\n")
			_, _ = c.Close(), l.Close()
		}
		p := harness.Start(t, "pipe", "--protocol", "generic", "--config", config)
		for _, question := range []string{setJoe, "auth:joe:dom.example:changed\n"} { // one after the other
			p.Send(question)
			p.Expect("1\n")
		}
		if rest, code := p.Finish(); rest != "" || code != 0 {
			t.Errorf("%s: %q, exit status %d", broker, rest, code)
		}
	}
}

// At a listener for relays of other users, the listener decides.
func TestRelayListenerChanges(t *testing.T) {
	dir := t.TempDir()
	yes, no := filepath.Join(dir, "yes.sock"), filepath.Join(dir, "no.sock")
	config, _ := harness.PipeUsers(t, `
listen "relay" { address = "unix:`+no+`" }
listen "editors" {
  protocol = "relay"
  address  = "unix:`+yes+`"
  changes  = true
}
`)
	s := harness.Serve(t, "--config", config)
	for _, c := range []struct{ socket, want string }{{no, "0\n"}, {yes, "1\n"}} {
		if r := harness.Command(t, setJoe, "pipe", "--protocol", "generic", "--socket", c.socket); r.Out != c.want {
			t.Errorf("%s: answered %q, want %q", c.socket, r.Out, c.want)
		}
	}
	for _, part := range []string{`listener=relay note="listener \"relay\" refuses`, `add changes = true to listen \"relay\"`, "source=forbidden"} {
		s.Eventually("the log has "+part, func() bool { return strings.Contains(s.Log.String(), part) })
	}
	if strings.Contains(s.Log.String(), `refuses requests of listen "editors"`) || strings.Contains(s.Log.String(), "listener=editors note=") {
		t.Error("the log names the listener that takes changes")
	}
}

// SIGHUP, which all processes of a name may get when logs are rotated, does not end a pipe, whether it
// works or not.
func TestPipeOutlivesHangup(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	for file, want := range map[string]string{config: "1\n", filepath.Join(t.TempDir(), "none.hcl"): "0\n"} {
		p := harness.Start(t, "pipe", "--protocol", "generic", "--config", file)
		for range 3 {
			p.Send(harness.JoeLine)
			p.Expect(want)
			p.Signal(syscall.SIGHUP)
		}
		p.Send(harness.JoeLine)
		p.Expect(want)
		if rest, code := p.Finish(); rest != "" || code != 0 {
			t.Errorf("%q, exit status %d", rest, code)
		}
	}
}

// Frames without line ends never pass a terminal: a person reads that at once, and a server's terminal
// stays silent, with the reason in the log.
func TestPipeOfFramesOnATerminal(t *testing.T) {
	config, data := harness.PipeUsers(t, "")
	for _, person := range []bool{true, false} {
		master, slave := harness.Terminal(t)
		harness.SetEcho(t, slave, person)
		p := &harness.Process{T: t, Cmd: exec.Command(harness.Binary, "pipe", "--protocol", "ejabberd", "--config", config)}
		p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr = slave, slave, slave
		p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		p.Run()
		_ = slave.Close()
		if !person {
			harness.FileSays(t, filepath.Join(data, "pipe.log"), "cannot work on a terminal")
			_ = master.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, err := master.Read(make([]byte, 1)); n > 0 || !os.IsTimeout(err) {
				t.Errorf("the terminal says %d bytes, %v", n, err)
			}
			continue
		}
		if code := p.Exit(); code != 1 {
			t.Errorf("exit status %d, want 1", code)
		}
		_ = master.SetReadDeadline(time.Now().Add(harness.Timeout))
		said, _ := io.ReadAll(master) // ends with an error: no process has the terminal any more
		if !strings.Contains(string(said), "cannot work on a terminal") {
			t.Errorf("said %q", said)
		}
	}
}
