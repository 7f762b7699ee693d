package peers

import (
	"os/exec"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// Accounts are made, changed and removed by the means that users and admins have: in-band
// registration (XEP-0077), the shell of a running Prosody, and prosodyctl's own commands.
func TestRealProsodyChangesAccounts(t *testing.T) { harness.EachRelease(t, prosodyChangesAccounts) }

func prosodyChangesAccounts(t *testing.T, r harness.Release) {
	app := harness.NewWebApp(t, harness.Always(200, harness.JSONYes)) // a backend that makes no changes
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig+"backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		"domain \"slow.example\" { backends = [backend.json.app] }\n")
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	p := startProsody(t, r, posternAt(s.Address("ejabberd"), ""))
	p.eventually("secret")

	guest, err := xmppOpen(p.port, "dom.example")
	if err != nil {
		t.Fatal(err)
	}
	defer guest.c.Close()
	for _, step := range [][3]string{
		{"ann", "first", "result"},
		{"ann", "second", "conflict"},
		{"bob", "sec&#10;ret", "feature-not-implemented"},
	} {
		if got, err := guest.register(step[0], step[1]); err != nil || got != step[2] {
			t.Errorf("registration of %v: %s, %v", step, got, err)
		}
	}
	p.wantLogin("bob", "sec", "not-authorized")
	p.wantLogin("ann", "second", "not-authorized")
	ann := xmppClient(t, p.port, "ann", "dom.example", "first")
	long := strings.Repeat("0123456789", 500)
	for _, step := range [][3]string{
		{"first", "third:&#228;", "result"},
		{"third:ä", "one&#10;setpass:joe:dom.example:stolen", "internal-server-error"},
		{"third:ä", "one&#9;two", "internal-server-error"},
		{"third:ä", long, "result"},
	} {
		p.wantLogin("ann", step[0], "success")
		if got, err := ann.register("ann", step[1]); err != nil || got != step[2] {
			t.Errorf("change to %.30q: %s, %v; want %s", step[1], got, err, step[2])
		}
	}
	p.wantLogin("ann", long, "success")
	p.wantLogin("ann", "first", "not-authorized")
	p.wantLogin("joe", "stolen", "not-authorized")

	// A backend that cannot change a password: the client gets that error.
	fixed := xmppClient(t, p.port, "fay", "slow.example", "anything")
	if got, err := fixed.register("fay", "other"); err != nil || got != "internal-server-error" {
		t.Errorf("change where there is none: %s, %v", got, err)
	}
	if got, err := fixed.ask("set", "<query xmlns='jabber:iq:register'><remove/></query>"); err != nil || got != "service-unavailable" {
		t.Errorf("removal where there is none: %s, %v", got, err)
	}

	if got, err := ann.ask("set", "<query xmlns='jabber:iq:register'><remove/></query>"); err != nil || got != "result" {
		t.Errorf("removal: %s, %v", got, err)
	}
	p.wantLogin("ann", long, "not-authorized")
	p.shell(t)
	p.calls(t)
	p.control(t)
}

// shell is what an admin types into the shell of a running Prosody.
func (p *prosody) shell(t *testing.T) {
	if p.Trixie() { // Prosody 13 cannot wait for an answer there unless it has asked for the password
		p.prosodyctl(t, "one\none\n", "Created eve@dom.example", "shell", "user", "create", "eve@dom.example")
		p.prosodyctl(t, "", "User exists", "shell", "user", "create", "eve@dom.example")
		p.prosodyctl(t, "three\nthree\n", "User password changed", "shell", "user", "password", "eve@dom.example")
		p.prosodyctl(t, "", "No such user", "shell", "user", "password", "nobody@dom.example")
	} else {
		for _, step := range [][2]string{
			{`user:create("eve@dom.example", "one")`, "OK: User created"},
			{`user:create("eve@dom.example", "two")`, "User exists"},
			{`user:password("eve@dom.example", "three")`, "OK: User password changed"},
			{`user:password("eve@dom.example", "li\nne")`, "Could not change password"},
			{`user:password("nobody@dom.example", "x")`, "No such user"},
		} {
			p.prosodyctl(t, "", step[1], "shell", step[0])
		}
	}
	p.wantLogin("eve", "three", "success")
	p.prosodyctl(t, "", "OK: User deleted", "shell", `user:delete("eve@dom.example")`)
	p.wantLogin("eve", "three", "not-authorized")
	p.prosodyctl(t, "", "OK: Showing all", "shell", `user:list("dom.example")`)
	p.prosodyctl(t, "", "OK:", "shell", `module:reload("auth_postern", "dom.example")`)
	p.eventually("secret")
}

// calls are those of Prosody's user manager that no command of 0.12 makes: newer versions create
// an account without a password first, and modules may ask where Prosody cannot wait.
func (p *prosody) calls(t *testing.T) {
	manager := `> require "core.usermanager".`
	p.prosodyctl(t, "", "Result: true", "shell", manager+`create_user("new", nil, "dom.example")`)
	p.wantLogin("new", "nil", "not-authorized")
	p.prosodyctl(t, "", "Result: true", "shell", manager+`set_password("new", "first", "dom.example")`)
	p.wantLogin("new", "first", "success")
	p.prosodyctl(t, "", "Result: true", "shell", manager+`get_provider("dom.example").is_enabled("new")`)
	p.prosodyctl(t, "", "Result: true", "shell", manager+`test_password("new", "dom.example", "first")`)
	p.prosodyctl(t, "", "must not be empty", "shell", manager+`test_password("new", "dom.example", "fir\0st")`)
	p.prosodyctl(t, "", "Result", "shell", `> require "util.timer".add_task(0, function () `+
		`prosody.answered = select(2, require "core.usermanager".user_exists("joe2", "dom.example")) end)`)
	harness.FileSays(t, p.log, "isuser was asked where Prosody cannot wait")
	p.prosodyctl(t, "", "try again later", "shell", `> prosody.answered`)
}

// control runs prosodyctl's commands, which load the module into a process of their own.
func (p *prosody) control(t *testing.T) {
	exists, none := "already exists", "does not exist"
	if p.Trixie() {
		exists, none = "User exists", "No such user"
	}
	p.prosodyctl(t, "one\none\n", "", "adduser", "kim@dom.example")
	p.wantLogin("kim", "one", "success")
	p.prosodyctl(t, "one\none\n", exists, "adduser", "kim@dom.example")
	p.prosodyctl(t, "two\ntwo\n", "", "passwd", "kim@dom.example")
	p.wantLogin("kim", "two", "success")
	p.prosodyctl(t, "", "", "deluser", "kim@dom.example")
	p.wantLogin("kim", "two", "not-authorized")
	p.prosodyctl(t, "", none, "deluser", "kim@dom.example")
}

func (p *prosody) prosodyctl(t *testing.T, stdin, want string, args ...string) {
	t.Helper()
	args = append([]string{"--config", p.config, "--root"}, args...)
	r := p.Run(t, stdin, p.Program(t, "prosodyctl"), args...)
	if !strings.Contains(r.Out+r.Err, want) {
		t.Errorf("prosodyctl %v: exit status %d\n%s%s", args, r.Code, r.Out, r.Err)
	}
}

// The module is Lua that Prosody's own interpreter compiles, and has no other fault that its
// linter knows.
func TestProsodyModuleLint(t *testing.T) {
	out, err := exec.Command(harness.Program(t, "luacheck"), "--no-cache", "--no-config", "--codes", "--std", "max",
		"--max-line-length", "130", "--globals", "module", "prosody", "--", "../../../scripts/prosody").CombinedOutput()
	if err != nil {
		t.Errorf("luacheck: %v\n%s", err, out)
	}
}
