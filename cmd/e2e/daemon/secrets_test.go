package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// Secrets go in on every way that there is, good ones and bad ones, whole and in pieces, to
// backends in every state, and come out nowhere: neither in output, logs and answers, nor in
// what the machine shows of the processes, nor in files.
func TestSecretsStayInside(t *testing.T) {
	w := newCanaryWorld(t)
	s := harness.NewSpy(t, w.config)
	w.accounts(s)
	daemon := harness.Serve(t, "--config", w.config)
	w.everyAnswer(s, daemon)
	w.everyMalformedFrame(s, daemon)
	w.everyBackendState(s, daemon)
	w.everyCommand(s)
	w.pipes(s, true)
	daemon.Signal(syscall.SIGUSR1)
	daemon.Eventually("tree", func() bool { return strings.Contains(daemon.Log.String(), "msg=tree") })
	daemon.Signal(syscall.SIGHUP)
	s.Saw("metrics", daemon.Metrics().Text)
	s.Process("the daemon", daemon.Cmd.Process.Pid)
	if code := daemon.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
	log := daemon.Log.String()
	s.Saw("standard output of the daemon", daemon.Out.String())
	s.Saw("log of the daemon", log)
	// The test is valid only if every path was taken.
	for _, source := range []string{"token", "hot", "coalesced", "backend", "grace", "refused-before", "malformed", "unknown-domain",
		"overload", "deadline", "unsupported"} {
		if !strings.Contains(log, " source="+source+" ") {
			t.Errorf("no answer came from %s", source)
		}
	}
	w.everyCommand(s)
	w.pipes(s, false)
	if n := s.Files(w.data); n < 2000 || !strings.Contains(s.Places["file "+filepath.Join(w.data, "users")], "joe@") {
		t.Errorf("only %d bytes were looked at in the data directory", n)
	}
	s.Check()
}

// No error about a broken configuration contains its secrets.
func TestSecretsOfABrokenConfiguration(t *testing.T) {
	s := harness.NewSpy(t, "")
	const start = "backend \"users\" \"local\" {}\nbackend \"jsxc\" \"cloud\" {\n  url = \"https://cloud.example\"\n"
	for name, text := range map[string]string{
		"unclosed":   start + "  secret = \"" + harness.CanarySecret + "\n}\n",
		"no quotes":  start + "  secret = " + harness.CanarySecret + "\n}\n",
		"misspelt":   start + "  secrt = \"" + harness.CanarySecret + "\"\n}\n",
		"misplaced":  "secret = \"" + harness.CanarySecret + "\"\n" + start + "}\n",
		"no =":       start + "  secret \"" + harness.CanarySecret + "\"\n}\n",
		"as yaml":    start + "  secret: " + harness.CanarySecret + "\n}\n",
		"two":        start + "  secret = \"a\" \"" + harness.CanarySecret + "\"\n}\n",
		"list":       start + "  secret = [\"" + harness.CanarySecret + "\"]\n}\n",
		"template":   start + "  secret = \"${" + harness.CanarySecret + "}\"\n}\n",
		"function":   start + "  secret = fil(\"" + harness.CanarySecret + "\")\n}\n",
		"in the url": "backend \"json\" \"app\" { url = \"https://me:" + harness.CanarySecret + "@app.example/\" }\n",
		"seed": "backend \"users\" \"local\" {}\ndomain \"*\" {\n  backends = [backend.users.local]\n  token \"totp\" {\n    seed = \"" +
			harness.CanarySeed + "!\"\n    secrets = [\"" + harness.CanaryTOTP + "\", 1]\n  }\n}\n",
		"readable": start + "  secret = \"" + harness.CanarySecret + "\"\n}\ndomain \"*\" { backends = [backend.jsxc.cloud] }\n",
	} {
		s.Config = harness.ConfigFile(t, t.TempDir(), text)
		if err := os.Chmod(s.Config, 0o644); err != nil {
			t.Fatal(err)
		}
		checked := s.Command("", "config", "check")
		if !strings.Contains(checked.Out, "error: ") && !strings.Contains(checked.Out, "warning: ") {
			t.Errorf("%s: there is nothing to complain about: %q", name, checked.Out)
		}
		s.Command("", "user", "list")
		if r := s.Command(harness.Frame("auth:joe:dom.example:"+harness.CanaryRight), "pipe", "--protocol", "ejabberd"); r.Code != 0 {
			t.Errorf("%s: pipe ended with %d", name, r.Code)
		}
		if checked.Code != 0 {
			s.Command("", "serve")
			s.Command(harness.CanaryRight, "test", "auth", "joe@dom.example")
		}
		s.Check()
	}
}
