package commands

import (
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/store"
)

const waitsForStore = "another process has the store"

// keepsStore checks a daemon that found its store in use at its start: it must have opened the
// store since, without a restart.
func keepsStore(t *testing.T, daemon *harness.Process, config string) {
	t.Helper()
	daemon.Logged("msg=ready")
	if log := daemon.Log.String(); strings.Contains(log, "from memory only") {
		t.Errorf("the daemon goes without its store:\n%s", log)
	}
	if stats := harness.OK(t, "", "cache", "stats", "--config", config); strings.Contains(stats, "store_failed") {
		t.Errorf("cache stats of the daemon: %s", stats)
	}
}

// A daemon that starts while a command has the store for its question gets it in the end.
func TestDaemonWaitsForAQuestion(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	app := harness.NewWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, harness.JSONYes)
	})
	config := harness.ConfigFile(t, t.TempDir(), `
backend "json" "app" { url = "`+app.URL+`" }
domain "app.example" { backends = [backend.json.app] }
`)
	question := harness.Start(t, "test", "--direct", "isuser", "joe@app.example", "--config", config)
	harness.WaitFor(t, "the backend is asked", func() bool { return app.Asked.Load() > 0 })
	daemon := harness.Start(t, "serve", "--config", config)
	daemon.Logged(waitsForStore)
	close(release)
	if out, code := question.Finish(); code != 0 {
		t.Errorf("the question: exit status %d, %s", code, out)
	}
	keepsStore(t, daemon, config)
}

// A command that takes long lets a daemon that starts meanwhile do the work.
func TestDaemonTakesARosterOver(t *testing.T) {
	t.Parallel()
	c := harness.NewCloud(t)
	program, _ := rosterScript(t)
	config := c.RosterConfig(t, `roster "ejabberd" { ejabberdctl = "`+program+`" }`)
	c.Team("Team", 0, 2)
	answers := *c.Serve.Load()
	release := make(chan struct{})
	defer close(release)
	c.Becomes(func(http.ResponseWriter, *http.Request) { <-release })
	plan := harness.Start(t, "roster", "plan", "user0@dom.example", "--config", config)
	harness.WaitFor(t, "the backend is asked", func() bool { return c.Asked.Load() > 0 })
	c.Becomes(answers)
	daemon := harness.Start(t, "serve", "--config", config)
	if out, code := plan.Finish(); code != 0 || !strings.Contains(out, "Name of user0") {
		t.Errorf("the plan: exit status %d\n%s", code, out)
	}
	keepsStore(t, daemon, config)
}

// A daemon that waits for its store ends on SIGTERM.
func TestDaemonEndsWhileItWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, err := store.OpenPebble(filepath.Join(dir, "store"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	daemon := harness.Start(t, "serve", "--config", harness.ConfigFile(t, dir, harness.UsersBase))
	daemon.Logged(waitsForStore)
	stopped := time.Now()
	daemon.Signal(syscall.SIGTERM)
	if code := daemon.Exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	const most = 20 * time.Second // of the whole wait
	if took := time.Since(stopped); took > most*3/4 {
		t.Errorf("ended after %v", took)
	}
}
