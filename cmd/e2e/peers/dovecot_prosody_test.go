package peers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"postern/cmd/e2e/harness"
)

// dovecotProsody takes the data directory, the module's folder, the c2s port and the sockets.
const dovecotProsody = `
data_path = "%[1]s"
plugin_paths = { "%[2]s" }
modules_enabled = { "saslauth" }
modules_disabled = { "s2s", "tls", "offline", "posix" }
c2s_ports = { %[3]d }
c2s_interfaces = { "127.0.0.1" }
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
run_as_root = true
log = { info = "%[1]s/prosody.log" }
authentication = "dovecot"
VirtualHost "dom.example"
	dovecot_auth_socket = "%[4]s"
VirtualHost "shop.example"
	dovecot_auth_socket = "%[5]s"
`

// The real Prosody with the community's mod_auth_dovecot, which keeps one connection per host and
// has a word for "cannot tell".
func TestProsodyDovecot(t *testing.T) { harness.EachRelease(t, prosodyDovecot) }

func prosodyDovecot(t *testing.T, r harness.Release) {
	m := newMail(t)
	dir, port := t.TempDir(), harness.FreePort(t)
	config := filepath.Join(dir, "prosody.cfg.lua")
	module := r.Unpacked(t, "prosody-modules/usr/lib/prosody/modules/mod_auth_dovecot")
	if err := os.WriteFile(config, fmt.Appendf(nil, dovecotProsody, dir, module, port,
		m.Address("dovecot-unix"), m.Address("dovecot-shop")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := r.Command(r.Program(t, "prosody"), "-F", "--config", config)
	var out harness.OutBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prosody:\n%s\n%s", out.String(), harness.ReadText(filepath.Join(dir, "prosody.log")))
		}
	})
	harness.WaitFor(t, "prosody accepts connections", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	want := func(user, domain, password, condition string) {
		t.Helper()
		if got, err := xmppLogin(port, user, domain, password); err != nil || got != condition {
			t.Errorf("%s@%s with %q: %s, %v; want %s", user, domain, password, got, err, condition)
		}
	}
	want("joe", "dom.example", "secret", "success")
	want("joe", "dom.example", "wrong", "not-authorized")
	want("josé", "dom.example", "secret", "success")
	want("nobody", "dom.example", "secret", "not-authorized")
	want("ann", "shop.example", "secret", "success")
	m.app.Becomes(harness.AppDown)
	want("ann", "shop.example", "secret", "temporary-auth-failure")
	want("joe", "dom.example", "secret", "success")
	m.app.Becomes(harness.AppUp)
	want("ann", "shop.example", "secret", "success") // on the same connection
	want("ann", "shop.example", "wrong", "not-authorized")
}
