package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A command that finds no daemon, and then one that has just started, is carried out by it.
func TestDomainMeetsAStartingDaemon(t *testing.T) {
	t.Parallel()
	config := configFile(t, t.TempDir(), "registry {}\n"+oneList+usersBase)
	s := serve(t, "--config", config)
	control := filepath.Join(dataDirOf(config), controlFile)
	if err := os.Rename(control, control+"~"); err != nil {
		t.Fatal(err)
	}
	p := start(t, "domain", "add", "new.example", "--backend", "users", "--config", config)
	waitFor(t, "the command waits for the data directory", func() bool {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
		for _, file := range files {
			if to, err := os.Readlink(file); err == nil && strings.HasSuffix(to, "/"+lockFile) {
				return true
			}
		}
		return false
	})
	if err := os.Rename(control+"~", control); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d: %s", code, p.log.String())
	}
	say(t, connect(t, s.address("generic")), "isuser:joe:new.example\n", "0\n")
	if out := ok(t, "", "domain", "list", "--config", config); !strings.Contains(out, "new.example") {
		t.Errorf("the daemon has only %s", out)
	}
}
