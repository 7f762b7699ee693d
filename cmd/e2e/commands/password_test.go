package commands

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/doctor"
)

// TestPasswordCommands: app passwords are made and taken back through a running daemon and without one, and
// both see what the other has done.
func TestPasswordCommands(t *testing.T) {
	dir, keys := t.TempDir(), t.TempDir()
	key := filepath.Join(keys, "app.key")
	harness.WriteFile(t, key, strings.Repeat("5a", 32)+"\n")
	r := &harness.Restartable{T: t, Config: harness.ConfigFile(t, dir, harness.OneList+harness.UsersBackend+fmt.Sprintf(
		"backend \"app_passwords\" \"devices\" {\n  key = file(%q)\n}\n"+
			"domain \"dom.example\" {\n  backends = [backend.app_passwords.devices, backend.users.local]\n  require_app_password = true\n}\n", key))}
	run := func(code int, args ...string) harness.Result {
		t.Helper()
		got := harness.Command(t, "", append(args, "--config", r.Config)...)
		if got.Code != code {
			t.Fatalf("postern %q: %+v", args, got)
		}
		return got
	}
	if got := harness.Command(t, "good\n", "user", "add", "joe@dom.example", "--config", r.Config); got.Code != 0 {
		t.Fatalf("%+v", got)
	}
	add := func(name string, more ...string) string {
		t.Helper()
		return strings.TrimSpace(run(0, append([]string{"password", "add", "joe@dom.example", "--name", name}, more...)...).Out)
	}
	want := func(secret, answer string) {
		t.Helper()
		if got := r.Ask("auth:joe:dom.example:" + secret + "\n"); got != answer+"\n" {
			t.Errorf("answered %q, want %s", got, answer)
		}
	}
	phone, mail := add("phone"), add("mail", "--services", "imap,smtp") // no daemon runs yet
	want(phone, "1")
	want(mail, "0") // these logins are for xmpp
	want("good", "0")
	laptop := add("laptop", "--expires", "90d")
	want(laptop, "1")
	run(0, "password", "revoke", "joe@dom.example", "phone")
	want(phone, "0")
	run(0, "password", "expire", "joe@dom.example", "laptop")
	want(laptop, "0")
	run(0, "password", "expire", "joe@dom.example", "laptop", "--expires", "never")
	want(laptop, "1")
	r.Meanwhile(func() { run(0, "password", "revoke", "joe@dom.example", "laptop") })
	want(laptop, "0")
	if got := harness.Command(t, mail, "test", "auth", "joe@dom.example", "--service", "imap", "--config", r.Config); got.Code != 0 || !strings.Contains(got.Out, "app-password") {
		t.Errorf("test auth for imap: %+v", got)
	}

	var listed struct {
		Passwords []struct {
			Name, State string
			Services    []string
			Last        string `json:"last_used"`
			Service     string `json:"last_service"`
		}
	}
	if err := json.Unmarshal([]byte(run(0, "password", "list", "joe@dom.example", "--json").Out), &listed); err != nil {
		t.Fatal(err)
	}
	if l := listed.Passwords; len(l) != 3 || l[0].State != "revoked" || l[0].Service != "xmpp" || l[1].State != "alive" || len(l[1].Services) != 2 || l[2].State != "revoked" {
		t.Errorf("%+v", l)
	}
	if text := run(0, "password", "list", "joe@dom.example").Out; !strings.Contains(text, "imap, smtp") || strings.Contains(text, phone) {
		t.Errorf("%s", text)
	}
	for says, args := range map[string][]string{
		"no such app password":  {"revoke", "joe@dom.example", "tablet"},
		"--all":                 {"revoke", "joe@dom.example"},
		"needs a name":          {"add", "joe@dom.example"},
		"--expires":             {"add", "joe@dom.example", "--name", "x", "--expires", "soon"},
		"no such domain":        {"add", "joe@other.example", "--name", "x"},
		"--expires \"\"":        {"expire", "joe@dom.example", "mail", "--expires", ""},
		"expired already":       {"add", "joe@dom.example", "--name", "x", "--expires", "2020-01-01"},
		"not the name of a ser": {"add", "joe@dom.example", "--name", "x", "--services", "im ap"},
	} {
		if got := run(1, append([]string{"password"}, args...)...); !strings.Contains(got.Err, says) {
			t.Errorf("password %q: %q does not say %q", args, got.Err, says)
		}
	}
	run(0, "user", "remove", "joe@dom.example")
	if text := run(0, "password", "list", "joe@dom.example").Out; !strings.Contains(text, "no app passwords") {
		t.Errorf("of a removed account: %s", text)
	}
	replace := func() { // a new account has nothing of one before
		add("stray")
		if got := harness.Command(t, "good\n", "user", "add", "joe@dom.example", "--config", r.Config); got.Code != 0 {
			t.Fatalf("%+v", got)
		}
		if text := run(0, "password", "list", "joe@dom.example").Out; !strings.Contains(text, "no app passwords") {
			t.Errorf("of a new account: %s", text)
		}
	}
	replace()
	run(0, "user", "remove", "joe@dom.example")
	r.Meanwhile(replace)
}

// TestPasswordKeyChanged: with another key app passwords are temporary failures, of which doctor says the cause.
func TestPasswordKeyChanged(t *testing.T) {
	dir, key := t.TempDir(), filepath.Join(t.TempDir(), "app.key")
	harness.WriteFile(t, key, strings.Repeat("5a", 32)+"\n")
	config := harness.ConfigFile(t, dir, `listen "ejabberd" { address = "127.0.0.1:0" }`+"\n"+harness.UsersBackend+fmt.Sprintf(
		"backend \"app_passwords\" \"devices\" {\n  key = file(%q)\n}\n"+
			"domain \"dom.example\" {\n  backends = [backend.app_passwords.devices, backend.users.local]\n}\n", key))
	harness.OK(t, "good\n", "user", "add", "joe@dom.example", "--config", config)
	secret := strings.TrimSpace(harness.OK(t, "", "password", "add", "joe@dom.example", "--name", "phone", "--config", config))
	s := harness.Serve(t, "--config", config)
	says := func(code int, answer string, status doctor.Status, parts ...string) {
		t.Helper()
		if got := harness.Exchange(t, s.Address("ejabberd"), harness.Frame("auth:joe:dom.example:"+secret)); got != answer {
			t.Errorf("answered %q, want %q", got, answer)
		}
		harness.WantFinding(t, harness.Diagnose(t, code, "--config", config), "backend.app_passwords.devices", "key", status, parts...)
	}
	says(0, "\x00\x02\x00\x01", doctor.OK, "1 app password in the store")
	harness.WriteFile(t, key, strings.Repeat("a5", 32)+"\n")
	harness.OK(t, "", "reload", "--config", config)
	says(2, "\x00\x02\x00\x02", doctor.Failure, "1 app password in the store, of which 1", "restore the former key")
}
