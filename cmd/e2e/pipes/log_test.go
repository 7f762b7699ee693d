package pipes

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
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
		"syntax":  {harness.ConfigFile(t, t.TempDir(), harness.PipeConfig+"domain {\n"), "config check"},
		"meaning": {harness.ConfigFile(t, t.TempDir(), harness.PipeConfig+"drain_timeout = \"soon\"\n"), "drain_timeout"},
		"missing": {filepath.Join(t.TempDir(), "none.hcl"), "--config FILE"},
		// As root everything is readable, but not a directory below a file.
		"data": {harness.ConfigFile(t, filepath.Join(file, "data"), harness.PipeConfig), file},
	}
	for protocol, d := range harness.Dialects() {
		for name, s := range surroundings {
			t.Run(protocol+"/"+name, func(t *testing.T) {
				t.Parallel()
				p := harness.Start(t, "pipe", "--protocol", protocol, "--config", s.config)
				p.Send(d.Yes)
				p.Expect(d.IsCannot)
				if !d.Once {
					p.Send(d.Nonsense + d.No)
					p.Expect(d.IsNonsense + d.IsCannot)
				}
				if rest, code := p.Finish(); rest != "" || code != 0 {
					t.Errorf("at the end: %q, exit status %d", rest, code)
				}
				if !strings.Contains(p.Log.String(), "level=ERROR") || !strings.Contains(p.Log.String(), s.logged) {
					t.Errorf("the log does not say what is wrong (%q)", s.logged)
				}
			})
		}
	}
}

// With a broken configuration no answer may say that a change was made, or that a roster is empty.
func TestPipeBrokenChangesNothing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.hcl")
	for input, want := range map[string]string{
		harness.Frame("setpass:joe:dom.example:new"):     "\x00\x02\x00\x02",
		harness.Frame("tryregister:joe:dom.example:new"): "\x00\x02\x00\x02",
		harness.Frame("removeuser:joe:dom.example"):      "\x00\x02\x00\x02",
		harness.Frame("isuser:joe:dom.example"):          "\x00\x02\x00\x02",
	} {
		if r := harness.Command(t, input, "pipe", "--protocol", "ejabberd", "--config", missing); r.Out != want || r.Code != 0 {
			t.Errorf("%q: answered %q, exit status %d", input, r.Out, r.Code)
		}
	}
	if r := harness.Command(t, "roster:joe:dom.example\n", "pipe", "--protocol", "generic", "--config", missing); r.Out != "None\n" {
		t.Errorf("roster: answered %q", r.Out)
	}
}

// With an unusable data directory logins work, but nothing is stored.
func TestPipeWithoutDataDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regular")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	app := harness.NewWebApp(t, harness.Always(200, harness.JSONYes))
	config := harness.ConfigFile(t, filepath.Join(file, "data"), "backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		"domain \"dom.example\" {\n  backends = [backend.json.app]\n  cache { bcrypt_cost = 4 }\n}\n")
	login := "auth:joe:dom.example:secret\n"
	r := harness.Command(t, login+login, "pipe", "--protocol", "generic", "--config", config)
	if r.Out != "1\n1\n" || r.Code != 0 || !strings.Contains(r.Err, "nothing will be kept on disk") {
		t.Errorf("answered %q, exit status %d\n%s", r.Out, r.Code, r.Err)
	}
}

// Where standard error leads to the peer, the log goes to a file: a line of it would be taken
// for an answer.
func TestPipeKeepsItsLogFromThePeer(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own.log")
	for _, c := range []struct {
		name, more string
		open       func(t *testing.T) (peer, theirs *os.File)
	}{
		{"pipe", "log { level = \"debug\" }\n", harness.Pipe},
		{"file", "log { level = \"debug\" }\n", sharedFile},
		{"log block", "log { file = \"" + own + "\" }\n", harness.Pipe},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, data := harness.Noisy(t, c.more)
			peer, both := c.open(t)
			cmd := exec.Command(harness.Binary, "pipe", "--protocol", "generic", "--config", config)
			cmd.Stdin = strings.NewReader("auth:joe:dom.example:secret\nauth:joe:away.example:secret\nauth:joe:dom.example:wrong\n")
			cmd.Stdout, cmd.Stderr = both, both
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
			_ = both.Close()
			if got, err := io.ReadAll(peer); err != nil || string(got) != "1\n0\n0\n" {
				t.Errorf("the peer read %q, %v", got, err)
			}
			harness.WaitFor(t, "three decisions and an outage in the log", func() bool {
				logs := logsIn(data)
				if c.name == "log block" {
					if logs != "" {
						t.Fatalf("the log block names a file, but there is another log:\n%s", logs)
					}
					logs = harness.ReadText(own)
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
		text += harness.ReadText(f)
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

// On Prosody's pseudo-terminal nothing but answers is ever to be read, whatever happens, and
// the log goes to a file.
func TestPipeOnATerminal(t *testing.T) {
	config, data := harness.Noisy(t, "log { level = \"debug\" }\n")
	p := harness.StartOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
	for _, q := range [][2]string{
		{"auth:joe:dom.example:secret\n", "1\n"}, // the terminal makes no CRLF of LF
		{"auth:joe:dom.example:wrong\n", "0\n"},
		{"auth:joe:away.example:secret\n", "0\n"},
		{"nonsense\n", "0\n"},
		{"isuser:joe:dom.example\n", "1\n"},
	} {
		p.Send(q[0])
		p.Expect(q[1])
	}
	if err := syscall.Kill(harness.OwnerOf(t, data), syscall.SIGUSR1); err != nil { // the tree goes to the log, too
		t.Fatal(err)
	}
	harness.WaitFor(t, "tree in the log", func() bool { return strings.Contains(logsIn(data), "msg=tree") })
	_ = p.Out.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := p.Out.Read(make([]byte, 100)); n > 0 || !os.IsTimeout(err) {
		t.Errorf("%d bytes more on the terminal, %v", n, err)
	}
	// The malformed one was refused by the copy itself.
	harness.WaitFor(t, "four decisions in the log", func() bool { return strings.Count(logsIn(data), "msg=decision") == 4 })
	// The peer hangs up. Prosody starts a program again only if it ended with status 0.
	_ = p.In.Close()
	if code := p.Exit(); code != 0 {
		t.Errorf("after a hang-up: exit status %d", code)
	}
}

// A relay that loses its daemon complains of it in the same file, and keeps to its protocol.
func TestRelayOnATerminal(t *testing.T) {
	config, data := harness.PipeUsers(t, "listen \"generic\" { address = \"127.0.0.1:0\" }\n")
	s := harness.Serve(t, "--config", config)
	p := harness.StartOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
	p.Send("auth:joe:dom.example:secret\nauth:joe:dom.example:wrong\n")
	p.Expect("1\n0\n")
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	harness.FileSays(t, filepath.Join(data, "pipe.log"), "the daemon is gone")
	p.Send("auth:joe:dom.example:secret\nauth:joe:dom.example:wrong\n") // another broker takes over
	p.Expect("1\n0\n")
	harness.Serve(t, "--config", config)
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
	_ = p.In.Close()
	if code := p.Exit(); code != 0 {
		t.Errorf("after a hang-up: exit status %d", code)
	}
}

// The terminal's own end of input ends a pipe like any other, and a broken configuration
// writes no word on it either.
func TestPipeOnATerminalBroken(t *testing.T) {
	p := harness.StartOnTerminal(t, "pipe", "--protocol", "generic", "--config", filepath.Join(t.TempDir(), "none.hcl"))
	for range 3 {
		p.Send("auth:joe:dom.example:secret\n")
		p.Expect("0\n")
	}
	p.Send("\x04") // ^D
	if code := p.Exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	_ = p.Out.SetReadDeadline(time.Now().Add(harness.Timeout))
	if rest, err := io.ReadAll(p.Out); len(rest) > 0 {
		t.Errorf("on the terminal: %q, %v", rest, err)
	}
}
