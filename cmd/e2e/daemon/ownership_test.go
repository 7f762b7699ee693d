package daemon

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// A daemon that root tries out in the directory of the service's user leaves nothing that keeps the
// service from its store.
func TestRootLeavesTheStoreToItsOwner(t *testing.T) {
	for name, end := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			app := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))
			config := harness.ConfigFile(t, dir, harness.OneList+`
backend "json" "app" { url = "`+app.URL+`" }
domain "dom.example" {
  backends = [backend.json.app]
  cache { bcrypt_cost = 4 }
}
`)
			strangers := harness.ChownAway(t, dir)
			login := func(s *harness.Server) {
				t.Helper()
				if got := harness.Exchange(t, s.Address("generic"), harness.JoeLine); got != "1\n" {
					t.Errorf("answered %q", got)
				}
			}
			tried := harness.Serve(t, "--config", config)
			login(tried)
			if end == syscall.SIGTERM {
				tried.Eventually("hash on disk", func() bool { return inFiles(t, filepath.Join(dir, "store"), "$2a$04$") })
				// as pebble makes files while it works
				harness.WriteFile(t, filepath.Join(dir, "store", "later"), "")
			}
			tried.Stop(end)
			if found := strangers(); end == syscall.SIGTERM && found != nil {
				t.Errorf("not the owner's: %v", found)
			}
			service := harness.ServeCommand(t, asOwner(t, dir, config))
			login(service)
			if log := service.Log.String(); strings.Contains(log, "level=ERROR") {
				t.Errorf("the service had trouble:\n%s", log)
			}
			if asked := app.Asked.Load(); end == syscall.SIGTERM && asked != 1 {
				t.Errorf("the backend was asked %d times, want once", asked)
			}
			if code := service.Stop(syscall.SIGTERM); code != 0 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}

// asOwner is a daemon that runs as the owner of a data directory, see harness.ChownAway.
func asOwner(t *testing.T, dir, config string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(harness.Binary, "serve", "--config", config)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if own := info.Sys().(*syscall.Stat_t); int(own.Uid) != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: own.Uid, Gid: own.Gid}}
	}
	for _, path := range []string{filepath.Dir(dir), filepath.Dir(config), filepath.Dir(filepath.Dir(config)), config} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}
