package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A daemon that root tries out in the directory of the user whom the service runs as leaves
// nothing that keeps the service from its store.
func TestRootLeavesTheStoreToItsOwner(t *testing.T) {
	for name, end := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			app := newWebApp(t, always(http.StatusOK, jsonYes))
			config := configFile(t, dir, oneList+`
backend "json" "app" { url = "`+app.URL+`" }
domain "dom.example" {
  backends = [backend.json.app]
  cache { bcrypt_cost = 4 }
}
`)
			strangers := foreign(t, dir)
			login := func(s *server) {
				t.Helper()
				if got := exchange(t, s.address("generic"), joeLine); got != "1\n" {
					t.Errorf("answered %q", got)
				}
			}
			tried := serve(t, "--config", config)
			login(tried)
			if end == syscall.SIGTERM { // as pebble makes files while it works
				write(t, filepath.Join(dir, "store", "later"), "")
			}
			tried.stop(end)
			if found := strangers(); end == syscall.SIGTERM && found != nil {
				t.Errorf("not the owner's: %v", found)
			}
			service := serveCommand(t, asOwner(t, dir, config))
			login(service)
			if log := service.log.String(); strings.Contains(log, "level=ERROR") {
				t.Errorf("the service had trouble:\n%s", log)
			}
			if asked := app.asked.Load(); end == syscall.SIGTERM && asked != 1 {
				t.Errorf("the backend was asked %d times, want once", asked)
			}
			if code := service.stop(syscall.SIGTERM); code != 0 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}

// asOwner is a daemon that runs as the owner of a data directory, see foreign.
func asOwner(t *testing.T, dir, config string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary, "serve", "--config", config)
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
