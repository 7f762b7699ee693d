package peers

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"postern/cmd/e2e/harness"
)

// TestEjabberdBesideDaemon: the real ejabberd starts `postern pipe` as its own user, which may not read the
// configuration, beside a daemon with a listen "relay". The pipe finds the daemon without an option, and
// accounts can be registered since changes names the user.
func TestEjabberdBesideDaemon(t *testing.T) {
	const dir = "/run/postern" // the tests of this package have mounts of their own
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	config := harness.ConfigFile(t, t.TempDir(), "listen \"relay\" {\n  users = [\"ejabberd\", \"prosody\"]\n  changes = [\"ejabberd\"]\n}\n"+harness.UsersBase)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	r := harness.Machine()
	e := startEjabberd(t, r, `
hosts: [dom.example]
extauth_program: "`+r.Program(t, "setpriv")+` --reuid=ejabberd --regid=ejabberd --clear-groups `+harness.Binary+` pipe --protocol ejabberd"
auth_use_cache: false
`)
	e.want(t, "joe", "dom.example", "secret", "success")
	e.want(t, "joe", "dom.example", "wrong", "not-authorized")
	e.ctl(t, 0, "register", "ann", "dom.example", "other")
	e.want(t, "ann", "dom.example", "other", "success")
	if s.Stop(unix.SIGTERM) != 0 {
		t.Error("the daemon did not end well")
	}
}
