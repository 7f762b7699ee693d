package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// What `config new` writes and prints is all that Prosody needs.
func TestConfigNewForProsody(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "config.hcl")
	printed := harness.OK(t, "", "config", "new", file, "--logins", "users", "--server", "prosody", "--domain", "dom.example", "--data-dir", filepath.Join(dir, "data"))
	harness.OK(t, "", "config", "check", file)
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", file)
	harness.Serve(t, "--config", file)
	_, lines, _ := strings.Cut(printed, "dom.example.cfg.lua\n\n")
	lines, _, found := strings.Cut(lines, "\n  The whole recipe: postern help prosody\n")
	if !found {
		t.Fatalf("%s", printed)
	}
	p := startProsody(t, harness.Machine(), lines)
	p.eventually("secret")
	p.wantLogin("joe", "wrong", "not-authorized")
}

// As root `config check` says what the user of the service cannot read, and its commands mend it.
func TestConfigCheckAsServiceUser(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SYSTEMD_UNIT_PATH", dir)
	file := filepath.Join(dir, "config.hcl")
	harness.WriteFile(t, filepath.Join(dir, "postern.service"), "[Service]\nExecStart=/usr/bin/postern serve --config "+file+"\nUser=nobody\nGroup=nogroup\n")
	harness.Mkdir(t, filepath.Join(dir, "data"))
	harness.OK(t, "secret\n", "config", "new", file, "--logins", "jsxc", "--url", "https://cloud.example/api", "--server", "cyrus", "--domain", "dom.example", "--data-dir", filepath.Join(dir, "data"))
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	before := ""
	for range 10 {
		r := harness.Command(t, "", "config", "check") // the file of the unit
		if before += r.Out; r.Code == 0 {
			break
		}
		for line := range strings.Lines(r.Out) {
			if command, ok := strings.CutPrefix(line, "        "); ok {
				if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", command, err, out)
				}
			}
		}
	}
	for _, want := range []string{
		"error: nobody, the user of postern.service, cannot enter ", "cannot read " + file, "cannot read " + filepath.Join(dir, "jsxc.secret"),
		"cannot write " + filepath.Join(dir, "data"), ": ok: 1 listeners",
	} {
		if !strings.Contains(before, want) {
			t.Errorf("no %q in\n%s", want, before)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "jsxc.secret")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", fmt.Sprint(info), err)
	}
	if out := exec.Command("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat", file, filepath.Join(dir, "jsxc.secret")); out.Run() != nil {
		t.Error("the user cannot read the files")
	}
}

// Written by root, the secret belongs to root and can be read by the group of the service.
func TestConfigNewForTheService(t *testing.T) {
	dir := t.TempDir()
	for name, line := range map[string]string{"passwd": "postern:x:4711:4712::/nonexistent:/usr/sbin/nologin\n", "group": "postern:x:4712:\n"} {
		file, system := filepath.Join(dir, name), filepath.Join("/etc", name)
		harness.WriteFile(t, file, harness.ReadText(system)+line)
		if err := errors.Join(os.Chmod(file, 0o644), syscall.Mount(file, system, "", syscall.MS_BIND, "")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(system, syscall.MNT_DETACH) })
	}
	for _, c := range []struct {
		more  []string
		group uint32
		mode  os.FileMode
	}{{nil, 4712, 0o640}, {[]string{"--credentials"}, 0, 0o600}} {
		dir := t.TempDir()
		t.Setenv("SYSTEMD_UNIT_PATH", dir)
		file := filepath.Join(dir, "config.hcl")
		harness.OK(t, "secret\n", append([]string{"config", "new", file, "--logins", "jsxc", "--url", "https://cloud.example/api", "--server", "exim", "--domain", "dom.example"}, c.more...)...)
		for name, want := range map[string]struct {
			group uint32
			mode  os.FileMode
		}{"config.hcl": {0, 0o644}, "jsxc.secret": {c.group, c.mode}} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if own := info.Sys().(*syscall.Stat_t); own.Uid != 0 || own.Gid != want.group || info.Mode().Perm() != want.mode {
				t.Errorf("%s: %d:%d %04o, want 0:%d %04o", name, own.Uid, own.Gid, info.Mode().Perm(), want.group, want.mode)
			}
		}
	}
}
