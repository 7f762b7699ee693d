package commands

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// `config new` writes a configuration that passes the check, with its secret in a file of its own, and
// overwrites nothing unless it is asked to.
func TestConfigNew(t *testing.T) {
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "sub", "config.hcl"), filepath.Join(dir, "sub", "nextcloud.secret")
	args := []string{"config", "new", file, "--logins", "nextcloud", "--url", "https://cloud.example", "--admin-user", "postern",
		"--server", "prosody,postfix", "--server", "cyrus", "--domain", "dom.example"}
	harness.WriteFile(t, filepath.Join(dir, "typed"), "hunter2\n")
	withFile := append(args, "--secret-file", filepath.Join(dir, "typed"))
	if out := harness.OK(t, "", append(withFile, "--dry-run")...); !strings.Contains(out, "backend \"nextcloud\"") || !strings.Contains(out, secret+": to be written") || !harness.Missing(file) {
		t.Errorf("a dry run:\n%s", out)
	}
	out := harness.OK(t, "", withFile...)
	for _, want := range []string{secret + ": written", file + ": written", "\n    authentication = \"postern\"\n", "smtpd_sasl_path", "sasl_pwcheck_method",
		"sudo -u postern postern test auth alice@dom.example --config " + file} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if harness.ReadText(secret) != "hunter2\n" || strings.Contains(out+harness.ReadText(file), "hunter2") {
		t.Error("the secret is not in its file, or elsewhere")
	}
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("%v, %v", info, err)
	}
	if check := harness.OK(t, "", "config", "check", file); !strings.Contains(check, ": ok: 4 listeners, 1 backends, 1 domains\n") || strings.Contains(check, "warning") {
		t.Errorf("%s", check)
	}

	// The same once more changes nothing; something else is refused as a whole.
	if out := harness.OK(t, "", withFile...); strings.Count(out, ": unchanged\n") != 2 {
		t.Errorf("%s", out)
	}
	if r := harness.Command(t, "other\n", args...); r.Code != 1 || !strings.Contains(r.Err, secret+" exists with different content: add --force") || harness.ReadText(secret) != "hunter2\n" {
		t.Errorf("another secret: exit status %d, %s", r.Code, r.Err)
	}
	before := harness.ReadText(file)
	if r := harness.Command(t, "", append(withFile, "--domain", "more.example")...); r.Code != 1 || !strings.Contains(r.Err, file+" exists with different content") || harness.ReadText(file) != before {
		t.Errorf("another domain: exit status %d, %s", r.Code, r.Err)
	}
	harness.OK(t, "other\n", append(args, "--domain", "more.example", "--force")...)
	if !strings.Contains(harness.ReadText(file), "more.example") || harness.ReadText(secret) != "other\n" {
		t.Error("--force did not overwrite")
	}
}

// With --credentials the secret is root's alone, and a drop-in passes it to the service.
func TestConfigNewCredentials(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.hcl")
	t.Setenv("SYSTEMD_UNIT_PATH", filepath.Join(dir, "units"))
	out := harness.OK(t, "hunter2\n", "config", "new", file, "--logins", "jsxc", "--url", "https://cloud.example/api", "--server", "prosody", "--domain", "dom.example", "--credentials")
	dropIn := filepath.Join(dir, "units", "postern.service.d", "config-new.conf")
	harness.FileSays(t, dropIn, "[Service]\nLoadCredential=jsxc.secret:"+filepath.Join(dir, "jsxc.secret")+"\n")
	if info, err := os.Stat(filepath.Join(dir, "jsxc.secret")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if !strings.Contains(out, "systemctl daemon-reload") || !strings.Contains(harness.ReadText(file), `secret = credential("jsxc.secret")`) {
		t.Errorf("%s\n%s", out, harness.ReadText(file))
	}
	harness.WriteFile(t, filepath.Join(dir, "units", "postern.service"), "[Service]\nExecStart=/usr/bin/postern serve\n")
	r := harness.Command(t, "", "config", "check", file)
	if os.Geteuid() == 0 && (r.Code != 0 || strings.Contains(r.Out, "warning")) || os.Geteuid() != 0 && !strings.Contains(r.Out, "run this as root") {
		t.Errorf("exit status %d\n%s", r.Code, r.Out)
	}
}

// Without a terminal everything must be said by flags, and nothing is written for answers that do not go
// together.
func TestConfigNewRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.hcl")
	for args, want := range map[string]string{
		"":                                "--logins is missing",
		"--logins jsxc":                   "--url is missing",
		"--logins users":                  "--server is missing",
		"--logins users --server postfix": "--domain is missing",
		"--logins ldap --server postfix --domain dom.example":                              "choose one of nextcloud, users, jsxc, json",
		"--logins users --server sendmail --domain dom.example":                            `no server "sendmail"`,
		"--logins json --url ftp://x --server postfix --domain dom.example":                "nothing is written",
		"--logins jsxc --url https://x --server exim --domain dom.example":                 "cannot be a password",
		"--logins jsxc --url https://x --server exim --domain x.example --secret-file /no": "/no",
	} {
		r := harness.Command(t, "", append([]string{"config", "new", file}, strings.Fields(args)...)...)
		if r.Code != 1 || !strings.Contains(r.Err, want) || !harness.Missing(file) {
			t.Errorf("%s: exit status %d, %q; want %q", args, r.Code, r.Err, want)
		}
	}
}

// On a terminal it asks, again after an answer that it does not know, and does not show the secret.
func TestConfigNewAsks(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.hcl")
	master, slave := harness.Terminal(t)
	harness.SetEcho(t, slave, true)
	name, err := harness.Released()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, "config", "new", file)
	var out, errs harness.OutBuffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for i, answer := range []string{"6", "jsxc", "https://cloud.example/api", "1, postfix sendmail", "1, postfix", "dom.example more.example", "hunter2"} {
		question := []string{"Number or name: ", "Choose from: nextcloud, users, jsxc, json, oidc\nNumber or name: ", "administration page of the app: ", "one or more: ",
			"Choose from: prosody, ejabberd, postfix, exim, dovecot, cyrus\nNumbers or names, one or more: ", "without one: ", "API secret, from the same page: "}[i]
		harness.WaitFor(t, question, func() bool { return strings.HasSuffix(errs.String(), question) })
		fmt.Fprintln(master, answer)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
	harness.FileSays(t, filepath.Join(dir, "jsxc.secret"), "hunter2\n")
	harness.FileSays(t, file, `url    = "https://cloud.example/api"`)
	harness.OK(t, "", "config", "check", file)
}
