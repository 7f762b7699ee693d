package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An extauth program that exits at once takes external authentication down on every virtual
// host of ejabberd. Whatever is wrong with its surroundings, a pipe stays, says what is
// wrong, and answers "cannot tell" until its input ends.
func TestPipeStaysWhenBroken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regular")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	surroundings := map[string]struct{ config, logged string }{
		"syntax":  {configFile(t, t.TempDir(), pipeConfig+"domain {\n"), "config check"},
		"meaning": {configFile(t, t.TempDir(), pipeConfig+"drain_timeout = \"soon\"\n"), "drain_timeout"},
		"missing": {filepath.Join(t.TempDir(), "none.hcl"), "--config FILE"},
		// As root everything is readable, but not a directory below a file.
		"data": {configFile(t, filepath.Join(file, "data"), pipeConfig), file},
	}
	for protocol, d := range dialects() {
		for name, s := range surroundings {
			t.Run(protocol+"/"+name, func(t *testing.T) {
				t.Parallel()
				p := start(t, "pipe", "--protocol", protocol, "--config", s.config)
				p.send(d.yes)
				p.expect(d.isCannot)
				if !d.once {
					p.send(d.nonsense + d.no)
					p.expect(d.isNonsense + d.isCannot)
				}
				if rest, code := p.finish(); rest != "" || code != 0 {
					t.Errorf("at the end: %q, exit status %d", rest, code)
				}
				if !strings.Contains(p.log.String(), "level=ERROR") || !strings.Contains(p.log.String(), s.logged) {
					t.Errorf("the log does not say what is wrong (%q)", s.logged)
				}
			})
		}
	}
}

// With a broken configuration nobody may be told that a change was made, or that there is a
// roster without anyone in it.
func TestPipeBrokenChangesNothing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.hcl")
	for input, want := range map[string]string{
		frame("setpass:joe:dom.example:new"):     "\x00\x02\x00\x02",
		frame("tryregister:joe:dom.example:new"): "\x00\x02\x00\x02",
		frame("removeuser:joe:dom.example"):      "\x00\x02\x00\x02",
		frame("isuser:joe:dom.example"):          "\x00\x02\x00\x02",
	} {
		if r := command(t, input, "pipe", "--protocol", "ejabberd", "--config", missing); r.out != want || r.code != 0 {
			t.Errorf("%q: answered %q, exit status %d", input, r.out, r.code)
		}
	}
	if r := command(t, "roster:joe:dom.example\n", "pipe", "--protocol", "generic", "--config", missing); r.out != "None\n" {
		t.Errorf("roster: answered %q", r.out)
	}
}

// A data directory that cannot be used costs what would be kept in it, not the logins.
func TestPipeWithoutDataDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regular")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	app := newWebApp(t, always(200, jsonYes))
	config := configFile(t, filepath.Join(file, "data"), "backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		"domain \"dom.example\" {\n  backends = [backend.json.app]\n  cache { bcrypt_cost = 4 }\n}\n")
	login := "auth:joe:dom.example:secret\n"
	r := command(t, login+login, "pipe", "--protocol", "generic", "--config", config)
	if r.out != "1\n1\n" || r.code != 0 || !strings.Contains(r.err, "nothing will be kept on disk") {
		t.Errorf("answered %q, exit status %d\n%s", r.out, r.code, r.err)
	}
}

// noisy is a pipe that has much to log: everything, and a backend that is away.
func noisy(t *testing.T, more string) (config, data string) {
	t.Helper()
	config, data = pipeUsers(t, "backend \"json\" \"app\" { url = \""+deadURL(t)+"\" }\n"+
		"domain \"away.example\" { backends = [backend.json.app] }\n"+more)
	return config, data
}

// Where standard error leads to the peer, the log goes to a file: a line of it would be taken
// for an answer.
func TestPipeKeepsItsLogFromThePeer(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own.log")
	for _, c := range []struct {
		name, more string
		open       func(t *testing.T) (peer, theirs *os.File)
	}{
		{"pipe", "log { level = \"debug\" }\n", pipe},
		{"file", "log { level = \"debug\" }\n", sharedFile},
		{"log block", "log { file = \"" + own + "\" }\n", pipe},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, data := noisy(t, c.more)
			peer, both := c.open(t)
			cmd := exec.Command(binary, "pipe", "--protocol", "generic", "--config", config)
			cmd.Stdin = strings.NewReader("auth:joe:dom.example:secret\nauth:joe:away.example:secret\nauth:joe:dom.example:wrong\n")
			cmd.Stdout, cmd.Stderr = both, both
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
			_ = both.Close()
			if got, err := io.ReadAll(peer); err != nil || string(got) != "1\n0\n0\n" {
				t.Errorf("the peer read %q, %v", got, err)
			}
			waitFor(t, "three decisions and an outage in the log", func() bool {
				logs := logsIn(data)
				if c.name == "log block" {
					if logs != "" {
						t.Fatalf("the log block names a file, but there is another log:\n%s", logs)
					}
					logs = readText(own)
				}
				return strings.Contains(logs, "backend cannot answer") && strings.Count(logs, "msg=decision") == 3
			})
		})
	}
}

// logsIn is the text of all logs in a directory.
func logsIn(dir string) (text string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, f := range files {
		text += readText(f)
	}
	return text
}

// sharedFile is a file that is written to, and the same file to be read from its beginning.
func sharedFile(t *testing.T) (r, w *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "both")
	w, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// terminal opens a pseudo-terminal as lpty does: echo off, everything else as it comes.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = master.Close(), slave.Close() })
	setEcho(t, slave, false)
	return master, slave
}

func setEcho(t *testing.T, terminal *os.File, on bool) {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Lflag &^= unix.ECHO
	if on {
		mode.Lflag |= unix.ECHO
	}
	if err := unix.IoctlSetTermios(int(terminal.Fd()), unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
}

// startOnTerminal starts a pipe whose three streams are one terminal that is its own, and
// ends it with the test.
func startOnTerminal(t *testing.T, args ...string) *process {
	t.Helper()
	return onTerminal(t, exec.Command(binary, args...), "")
}

// onTerminal is startOnTerminal with a command that becomes the pipe. The server writes asked before.
func onTerminal(t *testing.T, cmd *exec.Cmd, asked string) *process {
	t.Helper()
	master, slave := terminal(t)
	p := &process{t: t, cmd: cmd, in: master, out: master, ended: make(chan struct{})}
	p.send(asked)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p.run()
	_ = slave.Close()
	return p
}

// On Prosody's pseudo-terminal nothing but answers is ever to be read, whatever happens, and
// the log goes to a file.
func TestPipeOnATerminal(t *testing.T) {
	config, data := noisy(t, "log { level = \"debug\" }\n")
	p := startOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
	for _, q := range [][2]string{
		{"auth:joe:dom.example:secret\n", "1\n"}, // the terminal makes no CRLF of LF
		{"auth:joe:dom.example:wrong\n", "0\n"},
		{"auth:joe:away.example:secret\n", "0\n"},
		{"nonsense\n", "0\n"},
		{"isuser:joe:dom.example\n", "1\n"},
	} {
		p.send(q[0])
		p.expect(q[1])
	}
	if err := syscall.Kill(ownerOf(t, data), syscall.SIGUSR1); err != nil { // the tree goes to the log, too
		t.Fatal(err)
	}
	waitFor(t, "tree in the log", func() bool { return strings.Contains(logsIn(data), "msg=tree") })
	_ = p.out.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := p.out.Read(make([]byte, 100)); n > 0 || !os.IsTimeout(err) {
		t.Errorf("%d bytes more on the terminal, %v", n, err)
	}
	// The malformed one was refused by the copy itself.
	waitFor(t, "four decisions in the log", func() bool { return strings.Count(logsIn(data), "msg=decision") == 4 })
	// The peer hangs up. Prosody starts a program again only if it ended with status 0.
	_ = p.in.Close()
	if code := p.exit(); code != 0 {
		t.Errorf("after a hang-up: exit status %d", code)
	}
}

// A relay that loses its daemon complains of it in the same file, and keeps to its protocol.
func TestRelayOnATerminal(t *testing.T) {
	config, data := pipeUsers(t, "listen \"generic\" { address = \"127.0.0.1:0\" }\n")
	s := serve(t, "--config", config)
	p := startOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
	p.send("auth:joe:dom.example:secret\nauth:joe:dom.example:wrong\n")
	p.expect("1\n0\n")
	_ = s.cmd.Process.Kill()
	<-s.ended
	fileSays(t, filepath.Join(data, "pipe.log"), "the daemon is gone")
	p.send("auth:joe:dom.example:secret\nauth:joe:dom.example:wrong\n") // another broker takes over
	p.expect("1\n0\n")
	serve(t, "--config", config)
	p.send("auth:joe:dom.example:secret\n")
	p.expect("1\n")
	_ = p.in.Close()
	if code := p.exit(); code != 0 {
		t.Errorf("after a hang-up: exit status %d", code)
	}
}

// The terminal's own end of input ends a pipe like any other, and a broken configuration
// writes no word on it either.
func TestPipeOnATerminalBroken(t *testing.T) {
	p := startOnTerminal(t, "pipe", "--protocol", "generic", "--config", filepath.Join(t.TempDir(), "none.hcl"))
	for range 3 {
		p.send("auth:joe:dom.example:secret\n")
		p.expect("0\n")
	}
	p.send("\x04") // ^D
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	_ = p.out.SetReadDeadline(time.Now().Add(patience))
	if rest, err := io.ReadAll(p.out); len(rest) > 0 {
		t.Errorf("on the terminal: %q, %v", rest, err)
	}
}
