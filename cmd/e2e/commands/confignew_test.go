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
		"\n    postern serve --config " + file + "\n", "\n    postern test auth alice@dom.example --config " + file + "\n"} {
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

// Dovecot's secret is made, once: the file of the secret that the printed command reads.
func TestConfigNewDovecot(t *testing.T) {
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "config.hcl"), filepath.Join(dir, "http.secret")
	args := []string{"config", "new", file, "--logins", "users", "--server", "dovecot", "--domain", "dom.example"}
	out := harness.OK(t, "", args...)
	made := harness.ReadText(secret)
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm()&0o007 != 0 || len(made) < 25 || strings.Contains(out+harness.ReadText(file), strings.TrimSpace(made)) {
		t.Errorf("%v, %v, %d bytes\n%s", info, err, len(made), out)
	}
	for _, want := range []string{"    passdb {\n      driver = lua\n", "    passdb lua {\n", "\n  and carry out\n\n    sudo useradd ", "postern.lua' " + secret + "\n", "postern help mail"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if check := harness.OK(t, "", "config", "check", file); strings.Contains(check, "warning") {
		t.Errorf("%s", check)
	}
	again := harness.OK(t, "", append(args, "--domain", "more.example", "--force")...)
	if !strings.Contains(again, secret+": unchanged\n") || harness.ReadText(secret) != made {
		t.Errorf("another secret:\n%s", again)
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
		"--logins nextcloud --url https://x --server prosody,postfix --domain x.example":   "name one with --admin-user",
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
	file := filepath.Join(t.TempDir(), "config.hcl")
	answers(t, file, [][2]string{
		{"Number or name: ", "6"}, {"Choose from: nextcloud, users, jsxc, json, oidc\nNumber or name: ", "jsxc"}, {"administration page of the app: ", "https://cloud.example/api"},
		{"one or more: ", "1, postfix sendmail"}, {"Choose from: prosody, ejabberd, postfix, exim, dovecot, cyrus\nNumbers or names, one or more: ", "1, postfix"},
		{"without one: ", "dom.example more.example"}, {"API secret, from the same page: ", "hunter2"},
	})
	harness.FileSays(t, filepath.Join(filepath.Dir(file), "jsxc.secret"), "hunter2\n")
	harness.FileSays(t, file, `url    = "https://cloud.example/api"`)
	harness.OK(t, "", "config", "check", file)
}

// It asks for a service account of Nextcloud, until there is one if a server needs it.
func TestConfigNewAsksForTheServiceAccount(t *testing.T) {
	for servers, account := range map[string][][2]string{
		"prosody":         {{"looks up users (empty: none): ", ""}},
		"prosody postfix": {{"which Postfix needs: ", ""}, {"which Postfix needs: ", "postern"}},
	} {
		file := filepath.Join(t.TempDir(), "config.hcl")
		asked := append([][2]string{{"Number or name: ", "nextcloud"}, {"without index.php: ", "https://cloud.example"}, {"one or more: ", servers}}, account...)
		asked = append(asked, [2]string{"without one: ", "dom.example"})
		if len(account) > 1 {
			asked = append(asked, [2]string{"App password of the service account: ", "hunter2"})
		}
		answers(t, file, asked)
		if named := strings.Contains(harness.ReadText(file), `admin_user     = "postern"`); named != (len(account) > 1) {
			t.Errorf("%s: %s", servers, harness.ReadText(file))
		}
		harness.OK(t, "", "config", "check", file)
	}
}

// answers runs `config new` on a terminal, with the answer to each question.
func answers(t *testing.T, file string, asked [][2]string) {
	t.Helper()
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
	said := 0 // bytes of questions that are answered
	for _, q := range asked {
		harness.WaitFor(t, q[0], func() bool { text := errs.String(); return len(text) > said && strings.HasSuffix(text, q[0]) })
		said = len(errs.String())
		fmt.Fprintln(master, q[1])
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
}
