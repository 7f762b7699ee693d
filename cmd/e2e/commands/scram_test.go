package commands

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/doctor"
	"postern/internal/scram/scramtest"
)

// proves logs in by SCRAM at a listener for Prosody's module, and reports the value of the last answer.
func proves(t *testing.T, s *harness.Server, user, password string) byte {
	t.Helper()
	c := scramtest.Client{Mechanism: "SCRAM-SHA-256", User: user, Password: password}
	const from = ":dom.example:xmpp 192.0.2.1 SCRAM-SHA-256 - "
	first := harness.Exchange(t, s.Address("ejabberd"), harness.Frame("scram:"+user+from+c.First()))
	if len(first) < 4 || first[3] != 1 {
		t.Fatalf("the first answer is %q", first)
	}
	challenge, state, _ := strings.Cut(first[4:], " ")
	last := harness.Exchange(t, s.Address("ejabberd"), harness.Frame("proof:"+user+from+state+" "+c.Final(challenge)))
	if len(last) < 4 || (last[3] == 1) != (last[4:] == c.Signature) {
		t.Fatalf("the last answer is %q", last)
	}
	return last[3]
}

// TestScramKeysStay: app passwords get SCRAM keys whether a daemon runs or not, groups leave the keys of an account as
// they are, and doctor counts what has none.
func TestScramKeysStay(t *testing.T) {
	key := filepath.Join(t.TempDir(), "app.key")
	harness.WriteFile(t, key, strings.Repeat("5a", 32)+"\n")
	text := fmt.Sprintf("listen \"ejabberd\" { address = \"127.0.0.1:0\" }\n"+harness.OneList+harness.UsersBackend+
		"backend \"app_passwords\" \"devices\" {\n  key = file(%q)\n}\n"+
		"domain \"dom.example\" {\n  backends = [backend.app_passwords.devices, backend.users.local]\n  scram = true\n}\n", key)
	d := &harness.Restartable{T: t, Config: harness.ConfigFile(t, t.TempDir(), text)}
	without := func(change func()) { // of SCRAM in the domain
		harness.WriteFile(t, d.Config, strings.Replace(harness.ReadText(d.Config), "  scram = true\n", "", 1))
		change()
		harness.WriteFile(t, d.Config, strings.Replace(harness.ReadText(d.Config), "local]\n", "local]\n  scram = true\n", 1))
	}
	add := func(name string) string {
		t.Helper()
		return strings.TrimSpace(harness.OK(t, "", "password", "add", "joe@dom.example", "--name", name, "--config", d.Config))
	}
	offered := func() bool {
		t.Helper()
		return harness.Exchange(t, d.Running().Address("ejabberd"), harness.Frame("watch:0:dom.example")) == "\x00\x02\x02\x01"
	}
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", d.Config)
	phone := add("phone") // no daemon runs
	harness.OK(t, "", "user", "groups", "joe@dom.example", "mail", "chat", "--config", d.Config)
	if !offered() {
		t.Errorf("SCRAM is not offered:\n%s", d.Server.Log.String())
	}
	laptop := add("laptop") // one runs
	for name, c := range map[string]struct {
		user, password string
		want           byte
	}{
		"own password": {"joe", "secret", 1}, "made without a daemon": {"joe", phone, 1}, "made by the daemon": {"joe", laptop, 1},
		"wrong": {"joe", "wrong", 0}, "another's": {"ann", phone, 0},
	} {
		if got := proves(t, d.Server, c.user, c.password); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	harness.OK(t, "", "user", "groups", "joe@dom.example", "--none", "--config", d.Config)
	if got := proves(t, d.Server, "joe", "secret"); got != 1 {
		t.Errorf("after other groups: %d", got)
	}
	harness.WantFinding(t, harness.Diagnose(t, 0, "--config", d.Config), "backend.app_passwords.devices", "scram", doctor.OK, "all app passwords of dom.example")

	d.Meanwhile(func() {
		harness.WantFinding(t, harness.Diagnose(t, 2, "--config", d.Config), "backend.app_passwords.devices", "scram", doctor.Skipped, "by the daemon alone")
		without(func() {
			add("tablet")
			harness.OK(t, "secret\n", "user", "add", "ann@dom.example", "--config", d.Config)
		})
	})
	d.Running()
	found := harness.Diagnose(t, 1, "--config", d.Config)
	harness.WantFinding(t, found, "backend.app_passwords.devices", "scram", doctor.Warning, "1 app password of dom.example without SCRAM keys")
	harness.WantFinding(t, found, "backend.users.local", "scram", doctor.Warning, "1 account")
	if offered() {
		t.Error("SCRAM is offered though keys are missing")
	}
	harness.OK(t, "", "password", "revoke", "joe@dom.example", "tablet", "--config", d.Config)
	harness.OK(t, "secret\n", "user", "passwd", "ann@dom.example", "--config", d.Config)
	d.Server.Eventually("SCRAM is offered again", offered)
	harness.WantFinding(t, harness.Diagnose(t, 0, "--config", d.Config), "backend.app_passwords.devices", "scram", doctor.OK, "all app passwords")
}
