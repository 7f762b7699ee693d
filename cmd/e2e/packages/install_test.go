package packages

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// `make install` puts everything in its place below DESTDIR, with the prefix in the service, and
// `make uninstall` removes all of it, also where there is no build any more.
func TestInstall(t *testing.T) {
	stage, docs := t.TempDir(), t.TempDir()
	t.Setenv("BIN", "bin/deb-linux-"+runtime.GOARCH)
	t.Setenv("DOCS", docs)
	run := func(target string) {
		t.Helper()
		r := harness.RunCommand(t, "", harness.Program(t, "make"), target, "DESTDIR="+stage, "PREFIX=/opt/postern")
		if r.Code != 0 {
			t.Fatalf("exit status %d\n%s%s", r.Code, r.Out, r.Err)
		}
	}
	script, err := filepath.Abs(repository + "/scripts/package/docs.sh")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(repository)
	if r := harness.RunCommand(t, "", script, "bin/deb-linux-"+runtime.GOARCH+"/postern"); r.Code != 0 {
		t.Fatalf("exit status %d\n%s%s", r.Code, r.Out, r.Err)
	}
	run("install")
	for file, mode := range map[string]os.FileMode{
		"opt/postern/bin/postern": 0o755, "opt/postern/lib/postern/postern-relay": 0o755,
		"usr/lib/systemd/system/postern.service": 0o644, "usr/lib/systemd/system/postern-saslauthd.socket": 0o644,
		"usr/lib/sysusers.d/postern.conf": 0o644, "usr/lib/tmpfiles.d/postern.conf": 0o644,
		"opt/postern/lib/prosody/modules/mod_auth_postern.lua": 0o644, "opt/postern/share/doc/postern/config.hcl.example": 0o644,
		"opt/postern/share/man/man8/postern-config-check.8.gz":     0o644,
		"opt/postern/share/bash-completion/completions/postern":    0o644,
		"opt/postern/share/zsh/site-functions/_postern":            0o644,
		"opt/postern/share/fish/vendor_completions.d/postern.fish": 0o644,
		"opt/postern/share/doc/postern/README.md":                  0o644,
		"etc/postern": 0o755 | os.ModeDir,
	} {
		if info, err := os.Stat(filepath.Join(stage, file)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	service := harness.ReadText(filepath.Join(stage, "usr/lib/systemd/system/postern.service"))
	if !strings.Contains(service, "\nExecStart=/opt/postern/bin/postern serve\n") || strings.Contains(service, "/usr/bin/postern") {
		t.Errorf("the service starts another program:\n%s", service)
	}
	t.Setenv("BIN", "no-build")
	t.Setenv("DOCS", "no-build/docs")
	run("uninstall")
	if left := files(t, stage); len(left) > 0 {
		t.Errorf("left after make uninstall: %q", left)
	}
}

// files lists the files below a directory, without directories.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What setup.sh is about to need is compared with what the disks have, before anything is written.
func TestSpace(t *testing.T) {
	dir := harness.SmallDisk(t, 20)
	for _, c := range []struct {
		megabytes []string
		want      string
	}{
		{[]string{"2:" + dir, "2:" + dir + "/not/there"}, ""},
		{[]string{"2:" + dir, "1500:" + dir + "/not/there"}, "setup: the tests need 1.5 GB in " + dir + ", " + dir + "/not/there, and its disk (" + dir + ") has 0.0 GB free\n"},
		{[]string{"2:" + dir + "/not/there", "1:/"}, ""},
	} {
		r := harness.RunCommand(t, "", "sh", append([]string{repository + "/scripts/space.sh"}, c.megabytes...)...)
		if (r.Code == 0) != (c.want == "") || r.Err != c.want {
			t.Errorf("%q: exit status %d, %s", c.megabytes, r.Code, r.Err)
		}
	}
}
