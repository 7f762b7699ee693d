package harness

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Release is a release of Debian whose servers the tests start.
type Release struct {
	Name string // the code name
	root string // the folder in which setup.sh installed it; empty for the machine's own
}

// trixie is the code name of Debian 13.
const trixie = "trixie"

// errTrixie is why Debian 13's servers cannot be started. ServersMain sets it.
var errTrixie = errors.New("TestMain does not call ServersMain")

// Machine is the release that the machine runs. Its servers are installed by setup.sh.
func Machine() Release {
	for line := range strings.Lines(ReadText("/etc/os-release")) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); found {
			return Release{Name: name}
		}
	}
	return Release{Name: "machine"}
}

// Trixie is Debian 13. Tests that need it fail if its servers cannot be started here.
func Trixie(t *testing.T) Release {
	t.Helper()
	if errTrixie != nil {
		t.Fatalf("Debian 13's servers: %v", errTrixie)
	}
	return Release{trixie, Cached(trixie)}
}

// EachRelease runs a test with the servers of the machine and with Debian 13's, side by side.
func EachRelease(t *testing.T, test func(t *testing.T, r Release)) {
	t.Helper()
	t.Run(Machine().Name, func(t *testing.T) {
		t.Parallel()
		test(t, Machine())
	})
	t.Run(trixie, func(t *testing.T) {
		t.Parallel()
		test(t, Trixie(t))
	})
}

// Cached is the path of a file that setup.sh made in the cache folder.
func Cached(path string) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return path
	}
	return filepath.Join(cache, "postern", path)
}

// Trixie reports whether the release is Debian 13, whose servers are newer than the machine's.
func (r Release) Trixie() bool { return r.Name == trixie }

// Program looks for a program that setup.sh installs.
func (r Release) Program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(r.root + path); err == nil { // it may be a link within the root
			return path
		}
	}
	t.Fatalf("%s of %s is missing: run scripts/setup.sh", name, r.Name)
	return ""
}

// Unpacked looks for a file of a package that setup.sh unpacks without installing it. The path
// begins with the package's folder.
func (r Release) Unpacked(t *testing.T, path string) string {
	t.Helper()
	file := Cached(path)
	if r.root != "" {
		file = "/opt/" + path
	}
	if _, err := os.Stat(r.root + file); err != nil {
		t.Fatalf("%s of %s is missing: run scripts/setup.sh", file, r.Name)
	}
	return file
}

// Text is the text of a file of the release.
func (r Release) Text(path string) string { return ReadText(r.root + path) }

// Command is a command that starts a program of the release. The tests' folders, the repository and
// its loopback network are the same in all releases; other files are the release's own.
func (r Release) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: r.root}
	if r.root != "" {
		cmd.Dir = "/"
	}
	return cmd
}

// Run runs a program of the release to its end.
func (r Release) Run(t *testing.T, stdin, program string, args ...string) Result {
	t.Helper()
	return runToEnd(t, stdin, r.Command(program, args...))
}
