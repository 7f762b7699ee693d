package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/doctor"
	"postern/internal/qrcode/qrcodetest"
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

// TestPasswordQR: another program reads from the QR code, on a terminal and elsewhere, what a device needs to log in.
func TestPasswordQR(t *testing.T) {
	dir, keys := t.TempDir(), t.TempDir()
	key := filepath.Join(keys, "app.key")
	harness.WriteFile(t, key, strings.Repeat("5a", 32)+"\n")
	r := &harness.Restartable{T: t, Config: harness.ConfigFile(t, dir, harness.OneList+harness.UsersBackend+fmt.Sprintf(
		"backend \"app_passwords\" \"devices\" {\n  key = file(%q)\n}\n"+
			"domain \"dom.example\" {\n  backends = [backend.app_passwords.devices, backend.users.local]\n}\n", key))}
	harness.OK(t, "good\n", "user", "add", "joe@dom.example", "--config", r.Config)
	r.Running()
	add := func(more ...string) []string {
		return append([]string{"password", "add", "joe@dom.example", "--name", "phone", "--config", r.Config}, more...)
	}
	// checked reads what was printed: the secret, and the code.
	checked := func(form, out string) {
		t.Helper()
		secret, code, _ := strings.Cut(out, "\n")
		secret = strings.TrimSpace(secret)
		want := map[string]string{
			"": "user: joe@dom.example\npassword: " + secret,
			"thunderbird": `[1,[1,1],[0,"mail.dom.example",993,3,1,"joe@dom.example","","` + secret + `"],` +
				`[[[0,"mail.dom.example",587,2,1,"joe@dom.example","` + secret + `"],["joe@dom.example","joe"]]]]`,
			"conversations": `{"protocol":"xmpp","address":"joe@dom.example","password":"` + secret + `"}`,
		}[form]
		if got := qrcodetest.Read(t, code); got != want {
			t.Errorf("%q: the code has %q, want %q", form, got, want)
		}
		if got := r.Ask("auth:joe:dom.example:" + secret + "\n"); len(secret) != 34 || got != "1\n" {
			t.Errorf("%q: a login with the secret is answered %q", form, got)
		}
	}
	checked("", harness.OK(t, "", add("--qr")...))
	checked("thunderbird", harness.OK(t, "", add("--qr=thunderbird", "--server", "mail.dom.example")...))
	checked("conversations", harness.OK(t, "", add("--qr=conversations")...))

	master, slave := harness.Terminal(t)
	cmd := exec.Command(harness.Binary, add("--qr")...)
	cmd.Stdout = slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	var shown strings.Builder
	_, _ = io.Copy(&shown, master) // ends with an error when the terminal has no other end
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(shown.String(), "\x1b[38;5;16;48;5;231m") {
		t.Error("on a terminal the code has no colours")
	}
	checked("", shown.String())

	for says, more := range map[string][]string{
		"--server mail.dom.example": {"--qr=thunderbird"},
		"--qr=conversations":        {"--qr=png"},
		"exclusive":                 {"--qr", "--json"},
		"write --qr":                {"--server", "mail.dom.example"},
		"not the name of a server":  {"--qr", "--server", "mail.dom.example:993"},
		"by the domain":             {"--qr=conversations", "--server", "mail.dom.example"},
	} {
		if got := harness.Command(t, "", add(more...)...); got.Code != 1 || !strings.Contains(got.Err, says) || got.Out != "" {
			t.Errorf("%q: %+v", more, got)
		}
	}
	var listed struct{ Passwords []struct{} }
	if err := json.Unmarshal([]byte(harness.OK(t, "", "password", "list", "joe@dom.example", "--json", "--config", r.Config)), &listed); err != nil || len(listed.Passwords) != 4 {
		t.Errorf("%d app passwords, %v: one was made in spite of an error", len(listed.Passwords), err)
	}
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
