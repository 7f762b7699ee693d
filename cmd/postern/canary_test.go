package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The secrets that go through every path of the program and must come out nowhere. All but
// the seed and the issued tokens hold the word canary.
const (
	canaryRight  = "canaryRightPassword"
	canaryWrong  = "canaryWrongPassword"
	canaryNew    = "canaryNewPassword"
	canarySecret = "canaryApiSecret"
	canaryTOTP   = "canaryTotpSecret"
	canarySeed   = "MNQW4YLSPFJWKZLE"
)

// spy gathers all that the outside may see, and looks for the canaries in it.
type spy struct {
	t      *testing.T
	words  []string // in lower case
	places map[string]string
	config string
}

func newSpy(t *testing.T, config string) *spy {
	return &spy{t: t, config: config, places: map[string]string{},
		words: []string{"canary", strings.ToLower(canarySeed), fmt.Sprintf("%x", "canary"), "y2fuyxj5" /* base64 of canary */}}
}

// saw adds a text that the outside may see.
func (s *spy) saw(where, text string) { s.places[where] += text }

// command runs a command and looks at its output. The exit status does not matter.
func (s *spy) command(stdin string, args ...string) result {
	s.t.Helper()
	r := command(s.t, stdin, append(args, "--config", s.config)...)
	s.saw("output of postern "+strings.Join(args, " "), r.out+r.err)
	return r
}

// process looks at what every user of the machine may see of a process.
func (s *spy) process(what string, pid int) {
	s.t.Helper()
	for _, file := range []string{"cmdline", "environ", "comm"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil || len(text) == 0 && file != "environ" {
			s.t.Errorf("/proc/%d/%s of %s: %q, %v", pid, file, what, text, err)
		}
		s.saw(file+" of "+what, string(text))
	}
}

// files looks at the names and contents of a directory's files.
func (s *spy) files(dir string) (bytes int) {
	s.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		s.saw("file "+path, path+"\n"+string(text))
		bytes += len(text)
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
	return bytes
}

// check complains about every place where a canary is.
func (s *spy) check() {
	s.t.Helper()
	for where, text := range s.places {
		lower := strings.ToLower(text)
		for _, word := range s.words {
			if i := strings.Index(lower, word); i >= 0 {
				s.t.Errorf("%s holds a secret: %q", where, text[max(0, i-100):min(len(text), i+100)])
			}
		}
	}
}

// token issues a token, which is a secret from then on.
func (s *spy) token(args ...string) string {
	s.t.Helper()
	text := strings.TrimSpace(ok(s.t, "", append(append([]string{"token", "issue"}, args...), "--config", s.config)...))
	s.words = append(s.words, strings.ToLower(text))
	return text
}

// send writes raw bytes to a listener and reads until it closes; the answers are nothing that
// the outside may not see.
func (s *spy) send(address, input string) (answers string) {
	s.t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write([]byte(input)) // it may be cut off
	_ = c.(interface{ CloseWrite() error }).CloseWrite()
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	s.saw("answers", b.String())
	return b.String()
}

// Secrets go in on every way that there is, good ones and bad ones, whole and in pieces, to
// backends in every state, and come out nowhere: neither in output, logs and answers, nor in
// what the machine shows of the processes, nor in files.
func TestSecretsStayInside(t *testing.T) {
	w := newCanaryWorld(t)
	s := newSpy(t, w.config)
	w.accounts(s)
	daemon := serve(t, "--config", w.config)
	w.everyAnswer(s, daemon)
	w.everyMalformedFrame(s, daemon)
	w.everyBackendState(s, daemon)
	w.everyCommand(s)
	w.pipes(s, true)
	daemon.signal(syscall.SIGUSR1)
	daemon.eventually("tree", func() bool { return strings.Contains(daemon.log.String(), "msg=tree") })
	daemon.signal(syscall.SIGHUP)
	s.saw("metrics", daemon.metrics().text)
	s.process("the daemon", daemon.cmd.Process.Pid)
	if code := daemon.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
	log := daemon.log.String()
	s.saw("standard output of the daemon", daemon.out.String())
	s.saw("log of the daemon", log)
	// Nothing of this counts unless it went every way.
	for _, source := range []string{"token", "hot", "coalesced", "backend", "grace", "refused-before", "malformed", "unknown-domain",
		"overload", "deadline", "unsupported"} {
		if !strings.Contains(log, " source="+source+" ") {
			t.Errorf("no answer came from %s", source)
		}
	}
	w.everyCommand(s)
	w.pipes(s, false)
	if n := s.files(w.data); n < 2000 || !strings.Contains(s.places["file "+filepath.Join(w.data, "users")], "joe@") {
		t.Errorf("only %d bytes were looked at in the data directory", n)
	}
	s.check()
}

// A secret in a configuration that is broken stands in no complaint about it.
func TestSecretsOfABrokenConfiguration(t *testing.T) {
	s := newSpy(t, "")
	const start = "backend \"users\" \"local\" {}\nbackend \"jsxc\" \"cloud\" {\n  url = \"https://cloud.example\"\n"
	for name, text := range map[string]string{
		"unclosed":   start + "  secret = \"" + canarySecret + "\n}\n",
		"no quotes":  start + "  secret = " + canarySecret + "\n}\n",
		"misspelt":   start + "  secrt = \"" + canarySecret + "\"\n}\n",
		"misplaced":  "secret = \"" + canarySecret + "\"\n" + start + "}\n",
		"no =":       start + "  secret \"" + canarySecret + "\"\n}\n",
		"as yaml":    start + "  secret: " + canarySecret + "\n}\n",
		"two":        start + "  secret = \"a\" \"" + canarySecret + "\"\n}\n",
		"list":       start + "  secret = [\"" + canarySecret + "\"]\n}\n",
		"template":   start + "  secret = \"${" + canarySecret + "}\"\n}\n",
		"function":   start + "  secret = fil(\"" + canarySecret + "\")\n}\n",
		"in the url": "backend \"json\" \"app\" { url = \"https://me:" + canarySecret + "@app.example/\" }\n",
		"seed": "backend \"users\" \"local\" {}\ndomain \"*\" {\n  backends = [backend.users.local]\n  token \"totp\" {\n    seed = \"" +
			canarySeed + "!\"\n    secrets = [\"" + canaryTOTP + "\", 1]\n  }\n}\n",
		"readable": start + "  secret = \"" + canarySecret + "\"\n}\ndomain \"*\" { backends = [backend.jsxc.cloud] }\n",
	} {
		s.config = configFile(t, t.TempDir(), text)
		if err := os.Chmod(s.config, 0o644); err != nil {
			t.Fatal(err)
		}
		checked := s.command("", "config", "check")
		if !strings.Contains(checked.out, "error: ") && !strings.Contains(checked.out, "warning: ") {
			t.Errorf("%s: there is nothing to complain about: %q", name, checked.out)
		}
		s.command("", "user", "list")
		if r := s.command(frame("auth:joe:dom.example:"+canaryRight), "pipe", "--protocol", "ejabberd"); r.code != 0 {
			t.Errorf("%s: pipe ended with %d", name, r.code)
		}
		if checked.code != 0 {
			s.command("", "serve")
			s.command(canaryRight, "test", "auth", "joe@dom.example")
		}
		s.check()
	}
}

// startIdle starts a command that waits for its input, for a look at it from outside.
func (s *spy) startIdle(args ...string) *process {
	s.t.Helper()
	p := start(s.t, append(args, "--config", s.config)...)
	waitFor(s.t, "its own arguments", func() bool { // and no longer those of the test, from which it comes
		return strings.Contains(readText(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid)), "\x00"+args[0]+"\x00")
	})
	s.process("postern "+args[0], p.cmd.Process.Pid)
	return p
}
