package main

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
)

// A log file that the pipe's user cannot write costs no login. The log says so where it stands
// without the file, and the broker's goes there once it can.
func TestPipeWithoutItsLogFile(t *testing.T) {
	for name, startPipe := range map[string]func(*testing.T, ...string) *process{"streams": start, "terminal": startOnTerminal} {
		dir := t.TempDir()
		file := filepath.Join(dir, "logs", "postern.log")
		if err := os.WriteFile(filepath.Dir(file), nil, 0o600); err != nil { // root may write whatever is a file
			t.Fatal(err)
		}
		config, data := pipeUsers(t, "log { file = \""+file+"\" }\n")
		p := startPipe(t, "pipe", "--protocol", "generic", "--config", config)
		p.send("auth:joe:dom.example:secret\n")
		p.expect("1")
		waitFor(t, name+": complaints of pipe and broker", func() bool {
			log := p.log.String() + readText(filepath.Join(data, "pipe.log"))
			return strings.Count(log, "level=ERROR msg=\"the log stands here instead\"") == 2 && strings.Count(log, file) == 2
		})
		if err := errors.Join(os.Remove(filepath.Dir(file)), os.Mkdir(filepath.Dir(file), 0o700)); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(ownerOf(t, data), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		fileSays(t, file, "log file reopened")
	}
}

// Nor does a pipe.log that cannot be written.
func TestPipeWithoutItsOwnLog(t *testing.T) {
	config, data := pipeUsers(t, "")
	if err := os.Mkdir(filepath.Join(data, "pipe.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := startOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
	p.send("auth:joe:dom.example:secret\n")
	p.expect("1\n")
}

// A daemon is started by somebody who sees that it refuses.
func TestServeWithoutItsLogFile(t *testing.T) {
	config := configFile(t, t.TempDir(), usersConfig+"log { file = \"/dev/null/postern.log\" }\n")
	if r := command(t, "", "serve", "--config", config); r.code == 0 || !strings.Contains(r.err, "correct its path in the log block") {
		t.Errorf("exit status %d\n%s", r.code, r.err)
	}
}

// A broken configuration is mended: the same process, which has answered "cannot tell", answers.
func TestPipeRecovers(t *testing.T) {
	for protocol, d := range map[string]dialect{"ejabberd": dialects()["ejabberd"], "generic": dialects()["generic"]} {
		t.Run(protocol, func(t *testing.T) {
			config, _ := pipeUsers(t, "")
			sound := readText(config)
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(sound + "domain {\n")
			p := start(t, "pipe", "--protocol", protocol, "--config", config)
			p.send(d.yes)
			p.expect(d.isCannot)
			p.logged("config check")
			p.send(d.yes[:5]) // half a request is in the process when the time comes
			write(sound)
			p.send(d.yes[5:])
			p.expect(d.isCannot)
			waitFor(t, "a yes", func() bool {
				p.send(d.yes)
				_ = p.out.SetReadDeadline(time.Now().Add(patience))
				got := make([]byte, len(d.isYes))
				if _, err := io.ReadFull(p.out, got); err != nil {
					t.Fatal(err)
				}
				if string(got) != d.isYes {
					time.Sleep(time.Second / 4) // the stand-in looks when nobody asks
				}
				return string(got) == d.isYes
			})
			if rest, code := p.finish(); rest != "" || code != 0 {
				t.Errorf("ended with %q, status %d", rest, code)
			}
		})
	}
}

// What breaks while pipes run is met in the same way: the next owner does not start, and starts
// when the configuration is mended.
func TestOwnerRecovers(t *testing.T) {
	config, data := pipeUsers(t, "")
	sound := readText(config)
	p := start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x01")
	if err := os.WriteFile(config, []byte(sound+"domain {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kill(t, ownerOf(t, data))
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x02")
	p.logged("config check")
	if err := os.WriteFile(config, []byte(sound), 0o600); err != nil {
		t.Fatal(err)
	}
	untilYes(p)
}

// untilYes asks for joe's login again and again until it is answered yes. No question may be lost.
func untilYes(p *process) {
	p.t.Helper()
	waitFor(p.t, "a yes", func() bool {
		p.send(frame("auth:joe:dom.example:secret"))
		_ = p.out.SetReadDeadline(time.Now().Add(patience))
		got := make([]byte, 4)
		if _, err := io.ReadFull(p.out, got); err != nil {
			p.t.Fatal(err)
		}
		return string(got) == "\x00\x02\x00\x01"
	})
}

// A pipe whose configuration keeps its broker from starting does not keep a daemon with a sound one
// from the data directory.
func TestDaemonBesideABrokenPipe(t *testing.T) {
	config, data := pipeUsers(t, "")
	sound := configFile(t, data, pipeConfig)
	p := start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x01")
	if err := os.WriteFile(config, []byte("domain {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kill(t, ownerOf(t, data))
	p.logged("ended at once")
	serve(t, "--config", sound)
	untilYes(p)
}

// Faults of the command line do not end a pipe either; a protocol that is not known is told by
// what the peer says.
func TestPipeMisspelt(t *testing.T) {
	framed, lines := dialects()["ejabberd"], dialects()["generic"]
	config, _ := pipeUsers(t, "")
	for name, c := range map[string]struct {
		args  []string
		peers []dialect
	}{
		"protocol": {[]string{"--protocol", "ejaberd", "--config", config}, []dialect{framed, lines}},
		"none":     {[]string{"--config", config}, []dialect{framed, lines}},
		"flag":     {[]string{"--protocol", "ejabberd", "--confg", config}, []dialect{framed}},
		"word":     {[]string{"generic", "--protocol", "generic"}, []dialect{lines}},
		"data-dir": {[]string{"--protocol", "ejabberd", "--data-dir", "x"}, []dialect{framed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range c.peers {
				p := start(t, append([]string{"pipe"}, c.args...)...)
				p.send(d.yes)
				p.expect(d.isCannot)
				p.logged("level=ERROR")
				if rest, code := p.finish(); rest != "" || code != 0 {
					t.Errorf("ended with %q, status %d", rest, code)
				}
			}
		})
	}
}

// A person who types a faulty command line is told, and gets the prompt back.
func TestPipeMisspeltByHand(t *testing.T) {
	for _, args := range [][]string{{"--protocol", "smtp"}, {"--protocl", "generic"}, {"--protocol", "generic", "word"}, {}} {
		master, slave := terminal(t)
		setEcho(t, slave, true)
		p := &process{t: t, cmd: exec.Command(binary, append([]string{"pipe"}, args...)...), in: master, out: master, ended: make(chan struct{})}
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
		p.run()
		if code := p.exit(); code != 1 {
			t.Errorf("pipe %v: exit status %d", args, code)
		}
		_ = slave.Close()
		said := make([]byte, 1000)
		n, err := p.out.Read(said)
		if !strings.HasPrefix(string(said[:n]), "postern: ") {
			t.Errorf("pipe %v says %q, %v", args, said[:n], err)
		}
	}
}

// Prosody's children inherit its sockets (PROTOCOLS 3.2). The broker for all copies outlives the
// one that started it, and must not keep a port of Prosody busy.
func TestOwnerDropsInheritedSockets(t *testing.T) {
	config, data := pipeUsers(t, "")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	first := startWith(t, []*os.File{inherited}, "pipe", "--protocol", "generic", "--config", config)
	_, _ = inherited.Close(), listener.Close()
	first.send("auth:joe:dom.example:secret\n")
	first.expect("1\n")
	owner := ownerOf(t, data)
	second := start(t, "pipe", "--protocol", "generic", "--config", config)
	second.send("auth:joe:dom.example:secret\n")
	second.expect("1\n")
	if rest, code := first.finish(); rest != "" || code != 0 {
		t.Errorf("ended with %q, status %d", rest, code)
	}
	again, err := net.Listen("tcp", listener.Addr().String())
	if err != nil {
		t.Errorf("somebody keeps the port: %v", err)
	} else {
		_ = again.Close()
	}
	if !alive(owner) || ownerOf(t, data) != owner {
		t.Error("the owner did not outlive its starter")
	}
}

// A data directory that cannot be used has a private one stand in for it, where copies meet.
func TestPipesMeetWithoutDataDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regular")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	app := newWebApp(t, always(http.StatusOK, jsonYes))
	config := configFile(t, filepath.Join(file, "data"), "backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		"domain \"dom.example\" { backends = [backend.json.app] }\n")
	for _, p := range startPipes(t, 3, "ejabberd", config) {
		p.send(frame("auth:joe:dom.example:secret"))
		p.expect("\x00\x02\x00\x01")
	}
	if n := app.asked.Load(); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
	// What stands in must be ours alone: its name can be guessed.
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "postern-*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v, %v", dirs, err)
	}
	if err := os.Chmod(dirs[0], 0o777); err != nil {
		t.Fatal(err)
	}
	p := start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x02")
	p.logged("belongs to somebody else")
}
