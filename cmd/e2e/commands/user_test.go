package commands

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"postern/cmd/e2e/harness"
	"postern/internal/auth"
)

// userStep is one call of the command line and what must come of it.
type userStep struct {
	args     string
	stdin    string
	code     int
	out, err string // parts of the output
}

func runSteps(t *testing.T, config string, steps []userStep) {
	t.Helper()
	for _, s := range steps {
		r := harness.Command(t, s.stdin, append(strings.Fields(s.args), "--config", config)...)
		if r.Code != s.code || !strings.Contains(r.Out, s.out) || !strings.Contains(r.Err, s.err) {
			t.Errorf("postern %s < %.20q: exit status %d, %q, %q; want %d, %q, %q", s.args, s.stdin, r.Code, r.Out, r.Err, s.code, s.out, s.err)
		}
		if (s.code == 0) != (r.Err == "") {
			t.Errorf("postern %s: exit status %d, but the errors are %q", s.args, r.Code, r.Err)
		}
		if strings.Contains(r.Out+r.Err, "secret") {
			t.Errorf("postern %s: the password is in the output: %q %q", s.args, r.Out, r.Err)
		}
	}
}

func TestUserCommands(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	config := harness.ConfigFile(t, data, harness.PipeConfig)
	long := strings.Repeat("x", auth.MaxSecret)
	runSteps(t, config, []userStep{
		{"user list", "", 0, "", ""},
		{"user add joe@dom.example", "secret\nmore\n", 0, "added: joe@dom.example\n", ""},
		{"user add joe@DOM.example", "secret\n", 1, "", "`postern user passwd`"},
		{"user add ann@dom.example", "secret with: colons \r\n", 0, "added: ann", ""},
		{"user add eve@dom.example", long, 0, "added: eve", ""},
		{"user add bob@dom.example", "", 1, "", "cannot be a password"},
		{"user add bob@dom.example", "\nsecret\n", 1, "", "empty password"},
		{"user add bob@dom.example", long + "x\n", 1, "", "over 8192 bytes"},
		{"user add bob@dom.example", "sec\x00ret\n", 1, "", "NUL in password"},
		{"user add bob@dom.example", "sec\xffret\n", 1, "", "not UTF-8"},
		{"user add bob@dom.example word", "", 1, "", "user add USER@DOMAIN"}, // a password as an argument
		{"user add bob", "secret\n", 1, "", "USER@DOMAIN"},
		{"user add @dom.example", "secret\n", 1, "", "USER@DOMAIN"},
		{"user add bob@", "secret\n", 1, "", "USER@DOMAIN"},
		{"user add #bob@dom.example", "secret\n", 1, "", "comment"},
		{"user passwd bob@dom.example", "secret\n", 1, "", "`postern user add`"},
		{"user remove bob@dom.example", "", 1, "", "`postern user list`"},
		{"user list", "", 0, "ann@dom.example\neve@dom.example\njoe@dom.example\n", ""},
	})
	for user, password := range map[string]string{"joe": "secret", "ann": "secret with: colons ", "eve": long} {
		if r := harness.Command(t, password, "test", "auth", user+"@dom.example", "--config", config); r.Code != 0 {
			t.Errorf("%s cannot log in with the password that was set: %q", user, r.Out)
		}
	}
	runSteps(t, config, []userStep{{"user passwd joe@dom.example", "\n", 1, "", "empty password"}}) // and the old one stays
	harness.OK(t, "secret", "test", "auth", "joe@dom.example", "--config", config)
	harness.OK(t, "other", "user", "passwd", "joe@dom.example", "--config", config)
	harness.OK(t, "other", "test", "auth", "joe@dom.example", "--config", config)
	runSteps(t, config, []userStep{
		{"user groups joe@dom.example", "", 0, "", ""},
		{"user groups joe@dom.example staff mail staff", "", 0, "changed: joe@dom.example\n", ""},
		{"user groups JOE@dom.example", "", 0, "mail\nstaff\n", ""},
		{"user groups joe@dom.example --json", "", 0, "[\n  \"mail\",\n  \"staff\"\n]\n", ""},
		{"user groups joe@dom.example mail --none", "", 1, "", "or write --none"},
		{"user groups joe@dom.example a:b", "", 1, "", "a group with"},
		{"user groups bob@dom.example", "", 1, "", "`postern user list`"},
		{"user groups bob@dom.example mail", "", 1, "", "`postern user add`"},
		{"user passwd joe@dom.example", "other", 0, "changed", ""},
		{"user groups joe@dom.example", "", 0, "mail\nstaff\n", ""},
		{"user groups joe@dom.example --none", "", 0, "changed", ""},
		{"user groups joe@dom.example", "", 0, "", ""},
	})
	harness.OK(t, "other", "test", "auth", "joe@dom.example", "--config", config)
	harness.OK(t, "", "user", "remove", "ann@dom.example", "--config", config)
	if got := harness.OK(t, "", "user", "list", "--config", config); got != "eve@dom.example\njoe@dom.example\n" {
		t.Errorf("in the end there are %q", got)
	}
	file := filepath.Join(data, "users")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || strings.Contains(harness.ReadText(file), "other") {
		t.Errorf("the users file: %v, %v\n%s", info, err, harness.ReadText(file))
	}
	if info, err := os.Stat(data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory: %v, %v", info, err)
	}
}

func TestUserBackendChoice(t *testing.T) {
	const two = `
backend "users" "staff" { bcrypt_cost = 4 }
backend "users" "guests" {
  path        = "guests"
  bcrypt_cost = 4
}
domain "dom.example" { backends = [backend.users.staff, backend.users.guests] }
`
	config := harness.ConfigFile(t, t.TempDir(), two)
	runSteps(t, config, []userStep{
		{"user list", "", 1, "", "--backend NAME"},
		{"user add joe@dom.example", "secret", 1, "", "2 users backends"},
		{"user add joe@dom.example --backend guests", "secret", 0, "added: joe", ""},
		{"user list --backend staff", "", 0, "", ""},
		{"user list --backend guests", "", 0, "joe@dom.example", ""},
		{"user passwd joe@dom.example --backend staff", "secret", 1, "", "no such user"},
		{"user list --backend nobody", "", 1, "", "named \"nobody\""},
	})
	none := harness.ConfigFile(t, t.TempDir(), "backend \"json\" \"app\" { url = \"http://127.0.0.1:1\" }\n"+
		"domain \"dom.example\" { backends = [backend.json.app] }\n")
	runSteps(t, none, []userStep{{"user list", "", 1, "", "no users backend: add `backend \"users\" \"local\" {}`"}})
}

// accounts are an account in a users file and the domain of a login to which it answers.
var accounts = []struct{ name, account, login string }{
	{"own domain", "joe@plain.example", "plain.example"},
	{"auth_domain", "joe@back.example", "front.example"},
	{"same file", "joe@twin.example", "twin.example"},
}

const accountsConfig = `
listen "generic" { address = "127.0.0.1:0" }
backend "users" "local" { bcrypt_cost = 4 }
backend "users" "twin" { bcrypt_cost = 4 }
domain "plain.example" {
  backends = [backend.users.local]
  cache { bcrypt_cost = 4 }
}
domain "front.example" {
  backends    = [backend.users.local]
  auth_domain = "Back.Example"
  cache { bcrypt_cost = 4 }
}
domain "twin.example" {
  backends = [backend.users.twin]
  cache { bcrypt_cost = 4 }
}
`

// A changed password, or that of a removed account, does not stay valid in the cache, on any front
// or under any name of the account's domain.
func TestUserChangesReachTheCache(t *testing.T) {
	for _, daemon := range []bool{true, false} {
		for _, c := range accounts {
			name := c.name + map[bool]string{true: ", daemon", false: ", no daemon"}[daemon]
			t.Run(name, func(t *testing.T) {
				changeAccount(t, accountsConfig, c.account, c.login, daemon)
			})
		}
		t.Run("fallback", func(t *testing.T) {
			changeAccount(t, accountsConfig+fallback(""), "joe@other.example", "other.example", daemon)
		})
		t.Run("fallback elsewhere", func(t *testing.T) {
			changeAccount(t, accountsConfig+fallback(`auth_domain = "back.example"`), "joe@back.example", "any.example", daemon)
		})
	}
}

func fallback(more string) string {
	return "domain \"*\" {\n  backends = [backend.users.local]\n  cache { bcrypt_cost = 4 }\n  " + more + "\n}\n"
}

func changeAccount(t *testing.T, text, account, domain string, daemon bool) {
	config := harness.ConfigFile(t, t.TempDir(), text)
	s := &harness.Restartable{T: t, Config: config, Stays: daemon}
	user := func(stdin, do string) {
		t.Helper()
		s.Meanwhile(func() { harness.OK(t, stdin, "user", do, account, "--backend", "local", "--config", config) })
	}
	want := func(password, answer string) {
		t.Helper()
		if got := s.Ask("auth:joe:" + domain + ":" + password + "\n"); got != answer {
			t.Errorf("%s was answered %q, want %q", password, got, answer)
		}
	}
	exists := "isuser:joe:" + domain + "\n"
	if got := s.Ask(exists); got != "0\n" {
		t.Errorf("before there is an account: answered %q", got)
	}
	user("old", "add")
	if got := s.Ask(exists); got != "1\n" {
		t.Errorf("a new account was answered %q", got)
	}
	want("new", "0\n") // which is remembered, too
	want("old", "1\n")
	s.Remembers("joe@" + domain)
	user("new", "passwd")
	want("old", "0\n")
	want("new", "1\n")
	s.Remembers("joe@" + domain)
	user("", "remove")
	want("new", "0\n")
}

// On a terminal the password is asked for twice, without echo.
func TestUserAddAsks(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), harness.PipeConfig)
	for _, c := range []struct {
		second string
		code   int
		says   string
	}{
		{"secret", 0, "added: joe@dom.example"},
		{"sacred", 1, "differ"},
	} {
		master, slave := harness.Terminal(t)
		harness.SetEcho(t, slave, true)
		p := &harness.Process{T: t, Cmd: exec.Command(harness.Binary, "user", "add", "joe@dom.example", "--config", config), In: master}
		var out harness.OutBuffer
		p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr = slave, &out, &p.Log
		p.Run()
		for _, step := range [][2]string{{"new password of joe@dom.example: ", "secret"}, {"again: ", c.second}} {
			p.Logged(step[0])
			harness.WaitFor(t, "no echo", func() bool { return !echoes(t, slave) })
			p.Send(step[1] + "\n")
		}
		if code := p.Exit(); code != c.code || !strings.Contains(out.String()+p.Log.String(), c.says) {
			t.Errorf("exit status %d, %q %q", code, out.String(), p.Log.String())
		}
		if !echoes(t, slave) {
			t.Error("the terminal was left without echo")
		}
		harness.OK(t, "", "user", "list", "--config", config)
		_ = harness.Command(t, "", "user", "remove", "joe@dom.example", "--config", config)
	}
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return mode.Lflag&unix.ECHO != 0
}
