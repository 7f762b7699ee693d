package daemon

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"postern/e2e/harness"
)

// The data directory is read-only for the daemon alone, by its unit's sandbox. Commands and pipes
// of root, which can write there, find the daemon all the same.
func TestServiceOnReadOnlyDirectory(t *testing.T) {
	dir, service := harness.SmallDisk(t, 24), t.TempDir()
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	web := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))
	config := harness.ConfigFile(t, dir, "backend \"json\" \"app\" { url = \""+web.URL+"\" }\n"+
		"domain \"dom.example\" {\n  backends = [backend.json.app]\n  cache { storage = \"memory\" }\n}\n")
	remount(syscall.MS_RDONLY)
	cmd := exec.Command(harness.Binary, "serve", "--config", config)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+service+":/run/other", "INVOCATION_ID=0123456789abcdef")
	s := harness.ServeCommand(t, cmd)
	remount(0)
	if log := s.Log.String(); !strings.Contains(log, "check the disk") || !strings.Contains(log, "ReadWritePaths="+dir) {
		t.Errorf("the log does not say what to do:\n%s", log)
	}
	found, err := os.ReadDir(service)
	if err != nil || len(found) != 1 || !regexp.MustCompile("^data-[0-9a-f]{1,16}$").MatchString(found[0].Name()) {
		t.Fatalf("%v, %v", found, err)
	}
	if info, err := found[0].Info(); err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// What systemd gives the unit is at a fixed place, which commands look at, too.
	beside := func(stdin string, args ...string) harness.Result {
		t.Helper()
		script := `mount -t tmpfs none /run && mkdir /run/postern && mount --bind "$0" /run/postern && exec "$@"`
		return harness.RunCommand(t, stdin, harness.Program(t, "unshare"), append([]string{"-m", "sh", "-c", script, service, harness.Binary}, args...)...)
	}
	if r := beside("", "reload", "--config", config); r.Code != 0 {
		t.Errorf("reload: %+v", r)
	}
	if r := beside("auth:joe:dom.example:secret\n", "pipe", "--protocol", "generic", "--config", config); r.Code != 0 || r.Out != "1\n" {
		t.Errorf("a pipe: %+v", r)
	}
	s.Stop(syscall.SIGTERM)
	if r := beside("", "reload", "--config", config); r.Code == 0 || !strings.Contains(r.Err, "no daemon is running") {
		t.Errorf("without a daemon: %+v", r)
	}
}
