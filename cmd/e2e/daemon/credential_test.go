package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// A service reads its credentials from systemd, which puts new ones there at a start only: a reload that
// meets a changed one says so, and one that lacks a new one is refused.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	unit, source := filepath.Join(dir, "postern.service"), filepath.Join(dir, "source")
	const lines = "[Service]\nExecStart=/usr/bin/postern serve\n"
	harness.WriteFile(t, unit, lines+"LoadCredential=api:"+source+"\n")
	harness.WriteFile(t, source, "api-secret\n")
	harness.Mkdir(t, filepath.Join(dir, "given"))
	harness.WriteFile(t, filepath.Join(dir, "given", "api"), "api-secret\n")
	app := harness.JSXCServer(t)
	text := harness.OneList + "backend \"jsxc\" \"app\" {\n  url = \"" + app.URL + "\"\n  secret = credential(\"NAME\")\n}\n" +
		"domain \"dom.example\" { backends = [backend.jsxc.app] }\n"
	data := t.TempDir()
	config := harness.ConfigFile(t, data, strings.Replace(text, "NAME", "api", 1))
	cmd := exec.Command(harness.Binary, "serve", "--config", config)
	cmd.Env = append(os.Environ(), "CREDENTIALS_DIRECTORY="+filepath.Join(dir, "given"), "SYSTEMD_UNIT_PATH="+dir)
	s := harness.ServeCommand(t, cmd)
	if got := harness.Exchange(t, s.Address("generic"), harness.JoeLine); got != "1\n" {
		t.Fatalf("a login is answered %q", got)
	}
	reload := func(code int, want string) {
		t.Helper()
		r := harness.Command(t, "", "reload", "--config", config)
		if r.Code != code || (want == "") != !strings.Contains(r.Out+r.Err, "restart") || !strings.Contains(r.Out+r.Err, want) || strings.Contains(r.Out+r.Err, "api-secret") {
			t.Errorf("exit status %d, %s%s; want %d and %q", r.Code, r.Out, r.Err, code, want)
		}
	}
	reload(0, "")
	harness.WriteFile(t, source, "another\n")
	reload(0, "the credential api needs a restart: "+source+" has changed")
	s.Eventually("the log says it", func() bool { return strings.Contains(s.Log.String(), "the credential api needs a restart") })
	harness.WriteFile(t, unit, lines+"LoadCredential=api:"+source+"\nLoadCredential=later:"+source+"\n")
	harness.WriteFile(t, config, strings.Replace(harness.ReadText(config), "credential(\"api\")", "credential(\"later\")", 1))
	reload(1, "the credential later came into the unit after the service was started; it needs a restart")
	if got := harness.Exchange(t, s.Address("generic"), harness.JoeLine); got != "1\n" {
		t.Errorf("after that a login is answered %q", got)
	}
}

// A daemon that no server can ask says so at its start and at a reload, and `config check` before that.
func TestNoWayIn(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	const says = "no server can ask"
	if out := harness.OK(t, "", "config", "check", config); !strings.Contains(out, "warning: there is no listener, so "+says) {
		t.Errorf("%s", out)
	}
	s := harness.Serve(t, "--config", config)
	if n := strings.Count(s.Log.String(), says); n != 1 {
		t.Errorf("said %d times at the start", n)
	}
	text := harness.ReadText(config)
	harness.WriteFile(t, config, text+harness.OneList)
	harness.OK(t, "", "reload", "--config", config)
	if n := strings.Count(s.Log.String(), says); n != 1 {
		t.Errorf("said %d times with a listener", n)
	}
	if out := harness.OK(t, "", "config", "check", config); strings.Contains(out, says) {
		t.Errorf("%s", out)
	}
	harness.WriteFile(t, config, text)
	harness.OK(t, "", "reload", "--config", config)
	if n := strings.Count(s.Log.String(), says); n != 2 {
		t.Errorf("said %d times without one again", n)
	}
}
