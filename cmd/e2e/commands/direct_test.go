package commands

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// Files that root's commands create in the data directory belong to the owner of the directory.
// Otherwise the daemon that runs as that user could not start, or not open its store.
func TestDirectCommandsLeaveNothingOfTheirs(t *testing.T) {
	const add = "domain add one.example --backend users"
	for name, c := range map[string]struct {
		before []string // commands that have run already
		args   string
		code   int
	}{
		"domain add":     {nil, add, 0},
		"domain list":    {[]string{add}, "domain list", 0},
		"domain refused": {nil, "domain remove none.example", 1},
		"test":           {nil, "test isuser joe@dom.example", 1},
		"test --direct":  {[]string{add}, "test --direct isuser joe@one.example", 1},
		"cache flush":    {[]string{add}, "cache flush", 0},
		"forget":         {[]string{add}, "forget joe@dom.example", 0},
		"roster plan":    {nil, "roster plan dom.example", 1},
		"roster refresh": {[]string{add}, "roster refresh", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := harness.ConfigFile(t, dir, "registry {}\n"+harness.UsersBase)
			strangers := harness.ChownAway(t, dir)
			for _, line := range c.before {
				harness.OK(t, "", append(strings.Fields(line), "--config", config)...)
			}
			if r := harness.Command(t, "", append(strings.Fields(c.args), "--config", config)...); r.Code != c.code {
				t.Fatalf("exit status %d\n%s%s", r.Code, r.Out, r.Err)
			}
			if _, err := os.Stat(filepath.Join(dir, "store")); err != nil {
				t.Fatal(err)
			}
			if found := strangers(); found != nil {
				t.Errorf("not the owner's: %v", found)
			}
		})
	}
}

// Files that a command did not create keep their owner, and it follows no links out of the
// directory.
func TestDirectCommandsTouchNothingElse(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	config := harness.ConfigFile(t, dir, "registry {}\n"+harness.UsersBase)
	harness.ChownAway(t, dir)
	harness.Mkdir(t, filepath.Join(dir, "store"))
	for _, d := range []string{dir, outside} {
		harness.WriteFile(t, filepath.Join(d, "secret"), "an administrator's")
	}
	harness.Symlink(t, outside, filepath.Join(dir, "store", "link"))
	harness.OK(t, "", "domain", "add", "one.example", "--backend", "users", "--config", config)
	for _, path := range []string{filepath.Join(dir, "secret"), outside, filepath.Join(outside, "secret")} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if stat := info.Sys().(*syscall.Stat_t); int(stat.Uid) != os.Getuid() {
			t.Errorf("%s was given to %d", path, stat.Uid)
		}
	}
}

// A store that root has moved to another disk by a link remains usable by root's commands and by
// the daemon.
func TestDirectCommandsFollowRootsLink(t *testing.T) {
	dir, disk := t.TempDir(), t.TempDir()
	config := harness.ConfigFile(t, dir, "registry {}\n"+harness.UsersBase)
	harness.Symlink(t, disk, filepath.Join(dir, "store"))
	strangers := harness.ChownAway(t, dir)
	for _, name := range []string{"one.example", "two.example"} {
		harness.OK(t, "", "domain", "add", name, "--backend", "users", "--config", config)
	}
	if found := strangers(); len(found) > 1 || len(found) == 1 && filepath.Base(found[0]) != "store" {
		t.Errorf("in the data directory, not the owner's: %v", found)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	err = filepath.WalkDir(disk, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != owner {
			t.Errorf("%s is not the owner's", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
