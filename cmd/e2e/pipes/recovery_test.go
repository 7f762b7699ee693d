package pipes

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// A log file that the pipe's user cannot write fails no login. The log goes to the place that it
// has without a file and says so, and the broker's log goes to the file once that is possible.
func TestPipeWithoutItsLogFile(t *testing.T) {
	for name, startPipe := range map[string]func(*testing.T, ...string) *harness.Process{"streams": harness.Start, "terminal": harness.StartOnTerminal} {
		dir := t.TempDir()
		file := filepath.Join(dir, "logs", "postern.log")
		if err := os.WriteFile(filepath.Dir(file), nil, 0o600); err != nil { // root may write whatever is a file
			t.Fatal(err)
		}
		config, data := harness.PipeUsers(t, "log { file = \""+file+"\" }\n")
		p := startPipe(t, "pipe", "--protocol", "generic", "--config", config)
		p.Send("auth:joe:dom.example:secret\n")
		p.Expect("1")
		harness.WaitFor(t, name+": complaints of pipe and broker", func() bool {
			log := p.Log.String() + harness.ReadText(filepath.Join(data, "pipe.log"))
			return strings.Count(log, "level=ERROR msg=\"log file cannot be opened; logging here instead\"") == 2 && strings.Count(log, file) == 2
		})
		if err := errors.Join(os.Remove(filepath.Dir(file)), os.Mkdir(filepath.Dir(file), 0o700)); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(harness.OwnerOf(t, data), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		harness.FileSays(t, file, "log file reopened")
	}
}

// Nor does a pipe.log that cannot be written.
func TestPipeWithoutItsOwnLog(t *testing.T) {
	config, data := harness.PipeUsers(t, "")
	if err := os.Mkdir(filepath.Join(data, "pipe.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := harness.StartOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
}

// A daemon does not start: the user or systemd sees its error.
func TestServeWithoutItsLogFile(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig+"log { file = \"/dev/null/postern.log\" }\n")
	if r := harness.Command(t, "", "serve", "--config", config); r.Code == 0 || !strings.Contains(r.Err, "correct its path in the configuration") {
		t.Errorf("exit status %d\n%s", r.Code, r.Err)
	}
}

// A broken configuration is corrected: the same process, which has answered "cannot tell", answers.
func TestPipeRecovers(t *testing.T) {
	for protocol, d := range map[string]harness.Dialect{"ejabberd": harness.Dialects()["ejabberd"], "generic": harness.Dialects()["generic"]} {
		t.Run(protocol, func(t *testing.T) {
			config, _ := harness.PipeUsers(t, "")
			sound := harness.ReadText(config)
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(sound + "domain {\n")
			p := harness.Start(t, "pipe", "--protocol", protocol, "--config", config)
			p.Send(d.Yes)
			p.Expect(d.IsCannot)
			p.Logged("config check")
			p.Send(d.Yes[:5]) // half a request is in the process when the time comes
			write(sound)
			p.Send(d.Yes[5:])
			p.Expect(d.IsCannot)
			harness.WaitFor(t, "a yes", func() bool {
				p.Send(d.Yes)
				_ = p.Out.SetReadDeadline(time.Now().Add(harness.Timeout))
				got := make([]byte, len(d.IsYes))
				if _, err := io.ReadFull(p.Out, got); err != nil {
					t.Fatal(err)
				}
				if string(got) != d.IsYes {
					time.Sleep(time.Second / 4) // the fallback checks between questions
				}
				return string(got) == d.IsYes
			})
			if rest, code := p.Finish(); rest != "" || code != 0 {
				t.Errorf("ended with %q, status %d", rest, code)
			}
		})
	}
}

// A configuration that breaks while pipes run is handled in the same way: the next owner does not
// start, and starts when the configuration is corrected.
func TestOwnerRecovers(t *testing.T) {
	config, data := harness.PipeUsers(t, "")
	sound := harness.ReadText(config)
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x01")
	if err := os.WriteFile(config, []byte(sound+"domain {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Kill(t, harness.OwnerOf(t, data))
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x02")
	p.Logged("config check")
	if err := os.WriteFile(config, []byte(sound), 0o600); err != nil {
		t.Fatal(err)
	}
	untilYes(p)
}

// untilYes asks for joe's login again and again until it is answered yes. No question may be lost.
func untilYes(p *harness.Process) {
	p.T.Helper()
	harness.WaitFor(p.T, "a yes", func() bool {
		p.Send(harness.Frame("auth:joe:dom.example:secret"))
		_ = p.Out.SetReadDeadline(time.Now().Add(harness.Timeout))
		got := make([]byte, 4)
		if _, err := io.ReadFull(p.Out, got); err != nil {
			p.T.Fatal(err)
		}
		return string(got) == "\x00\x02\x00\x01"
	})
}

// A pipe with a configuration that keeps its broker from starting does not keep a daemon with a
// sound one out of the data directory.
func TestDaemonBesideABrokenPipe(t *testing.T) {
	config, data := harness.PipeUsers(t, "")
	sound := harness.ConfigFile(t, data, harness.PipeConfig)
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x01")
	if err := os.WriteFile(config, []byte("domain {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Kill(t, harness.OwnerOf(t, data))
	p.Logged("ended at once")
	harness.Serve(t, "--config", sound)
	untilYes(p)
}

// Errors of the command line do not end a pipe either. An unknown protocol is guessed from the
// first bytes of the peer.
func TestPipeMisspelt(t *testing.T) {
	framed, lines := harness.Dialects()["ejabberd"], harness.Dialects()["generic"]
	config, _ := harness.PipeUsers(t, "")
	for name, c := range map[string]struct {
		args  []string
		peers []harness.Dialect
	}{
		"protocol": {[]string{"--protocol", "ejaberd", "--config", config}, []harness.Dialect{framed, lines}},
		"none":     {[]string{"--config", config}, []harness.Dialect{framed, lines}},
		"flag":     {[]string{"--protocol", "ejabberd", "--confg", config}, []harness.Dialect{framed}},
		"word":     {[]string{"generic", "--protocol", "generic"}, []harness.Dialect{lines}},
		"data-dir": {[]string{"--protocol", "ejabberd", "--data-dir", "x"}, []harness.Dialect{framed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range c.peers {
				p := harness.Start(t, append([]string{"pipe"}, c.args...)...)
				p.Send(d.Yes)
				p.Expect(d.IsCannot)
				p.Logged("level=ERROR")
				if rest, code := p.Finish(); rest != "" || code != 0 {
					t.Errorf("ended with %q, status %d", rest, code)
				}
			}
		})
	}
}

// A faulty command line that is typed by hand is an error, and the prompt is back.
func TestPipeMisspeltByHand(t *testing.T) {
	for _, args := range [][]string{{"--protocol", "smtp"}, {"--protocl", "generic"}, {"--protocol", "generic", "word"}, {}} {
		master, slave := harness.Terminal(t)
		harness.SetEcho(t, slave, true)
		p := &harness.Process{T: t, Cmd: exec.Command(harness.Binary, append([]string{"pipe"}, args...)...), In: master, Out: master}
		p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr = slave, slave, slave
		p.Run()
		if code := p.Exit(); code != 1 {
			t.Errorf("pipe %v: exit status %d", args, code)
		}
		_ = slave.Close()
		said := make([]byte, 1000)
		n, err := p.Out.Read(said)
		if !strings.HasPrefix(string(said[:n]), "postern: ") {
			t.Errorf("pipe %v says %q, %v", args, said[:n], err)
		}
	}
}

// Prosody's children inherit its sockets. The broker for all copies outlives the
// one that started it, and must not keep a port of Prosody busy.
func TestOwnerDropsInheritedSockets(t *testing.T) {
	config, data := harness.PipeUsers(t, "")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	first := harness.StartWith(t, []*os.File{inherited}, "pipe", "--protocol", "generic", "--config", config)
	_, _ = inherited.Close(), listener.Close()
	first.Send("auth:joe:dom.example:secret\n")
	first.Expect("1\n")
	owner := harness.OwnerOf(t, data)
	second := harness.Start(t, "pipe", "--protocol", "generic", "--config", config)
	second.Send("auth:joe:dom.example:secret\n")
	second.Expect("1\n")
	if rest, code := first.Finish(); rest != "" || code != 0 {
		t.Errorf("ended with %q, status %d", rest, code)
	}
	again, err := net.Listen("tcp", listener.Addr().String())
	if err != nil {
		t.Errorf("the port is still in use: %v", err)
	} else {
		_ = again.Close()
	}
	if !harness.Alive(owner) || harness.OwnerOf(t, data) != owner {
		t.Error("the owner did not outlive its starter")
	}
}

// Where the data directory cannot be used, copies meet in a private directory instead.
func TestPipesMeetWithoutDataDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regular")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	app := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))
	config := harness.ConfigFile(t, filepath.Join(file, "data"), "backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		"domain \"dom.example\" { backends = [backend.json.app] }\n")
	for _, p := range startPipes(t, 3, "ejabberd", config) {
		p.Send(harness.Frame("auth:joe:dom.example:secret"))
		p.Expect("\x00\x02\x00\x01")
	}
	if n := app.Asked.Load(); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
	// That directory must belong to this user alone, since its name can be guessed.
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "postern-*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v, %v", dirs, err)
	}
	if err := os.Chmod(dirs[0], 0o777); err != nil {
		t.Fatal(err)
	}
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x02")
	p.Logged("belongs to another user")
}
