package web

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// saslauthd is where libsasl2 looks for the socket: Apache's module cannot be told another place.
const saslauthd = "/run/saslauthd"

// apacheConf takes a folder, the port, and what the manual says.
const apacheConf = `
ServerRoot %[1]s
ServerName localhost
PidFile %[1]s/pid
DefaultRuntimeDir %[1]s
ErrorLog %[1]s/error.log
Listen 127.0.0.1:%[2]d
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule auth_basic_module /usr/lib/apache2/modules/mod_auth_basic.so
LoadModule authn_sasl_module /usr/lib/apache2/modules/mod_authn_sasl.so
DocumentRoot %[1]s/www
<Location />
%[3]s</Location>
`

// Apache has no module that asks by HTTP. That of Debian for Cyrus SASL asks by the saslauthd protocol; it takes a
// temporary failure for a wrong password.
func TestWebApache(t *testing.T) {
	if err := os.MkdirAll(saslauthd, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", saslauthd, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(saslauthd, syscall.MNT_DETACH) })
	s := newSite(t, 1, 1)
	file := harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(strings.Replace(config, "\nlisten \"http\"", `
listen "saslauthd" {
  address        = "unix:`+saslauthd+`/mux"
  mode           = "0666"
  default_domain = "dom.example"
}
listen "http"`, 1), s.app.URL, s.dir, 1, 1))
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", file)
	p := harness.Serve(t, "--config", file)
	port := harness.FreePort(t)
	s.write(t, "www/page", "the page")
	s.start(t, harness.Machine(), port, s.dir+"/error.log", "apache2", "-X", "-d", s.dir, "-f", s.write(t, "apache.conf", fmt.Sprintf(apacheConf, s.dir, port, harness.PageBlocks(t, "http", "TestWebApache")[0])))
	want := func(user, password, want string) {
		t.Helper()
		if got := visit(t, port, user, password); !strings.HasPrefix(got, want) {
			t.Errorf("%s with %q: %s; want %s", user, password, got, want)
		}
	}
	want("joe@dom.example", "secret", "200")
	want("joe", "secret", "200")
	want("joe", "wrong", "401")
	want("ann@shop.example", "secret", "200")
	s.app.Becomes(harness.AppDown)
	want("ann@shop.example", "secret", "200") // known during the outage
	want("bob@shop.example", "secret", "401")
	p.Eventually("the temporary failure", func() bool { return strings.Contains(p.Log.String(), "verdict=unavailable") })
	s.app.Becomes(harness.AppUp)
	want("bob@shop.example", "secret", "200")
}
