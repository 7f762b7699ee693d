package commands

import (
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

const tokenConfig = harness.PipeConfig + `
domain "jsxc.example" {
  backends = [backend.users.local]
  token "jsxc" {
    secrets = ["first-secret", "second-secret"]
    ttl     = "1d"
  }
}
domain "both.example" {
  backends = [backend.users.local]
  token "jsxc" { secrets = ["jsxc-secret"] }
  token "totp" {
    seed    = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    secrets = ["totp-secret"]
  }
}
domain "*" {
  backends = [backend.users.local]
  token "totp" {
    seed    = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    secrets = ["totp-secret"]
  }
}
`

// An issued token logs its user in, and no other, and says of itself what was asked for.
func TestTokens(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), tokenConfig)
	for _, c := range []struct {
		args   string
		domain string
		kind   string
		life   time.Duration
		again  string // the answer to the same token used once more
	}{
		{"joe@jsxc.example", "jsxc.example", "jsxc", 24 * time.Hour, "1\n"},
		{"joe@JSXC.example --kind jsxc --ttl 10m", "jsxc.example", "jsxc", 10 * time.Minute, "1\n"},
		{"joe@both.example", "both.example", "jsxc", time.Hour, "1\n"},
		{"joe@both.example --kind totp", "both.example", "totp", 0, "0\n"},
		{"joe@any.example", "any.example", "totp", 0, "0\n"},
	} {
		begun := time.Now()
		token := harness.OK(t, "", append(strings.Fields("token issue "+c.args), "--config", config)...)
		if strings.Count(token, "\n") != 1 || !strings.HasSuffix(token, "\n") {
			t.Errorf("%s printed %q", c.args, token)
		}
		said := harness.OK(t, token, "token", "inspect")
		if !strings.Contains(said, "kind: "+c.kind+"\n") {
			t.Errorf("%s is a token that says %q", c.args, said)
		}
		if c.life > 0 {
			checkExpiry(t, said, begun.Add(c.life), time.Now().Add(c.life))
		}
		login := func(user string) string { return "auth:" + user + ":" + c.domain + ":" + token }
		r := harness.Command(t, login("ann")+login("joe"), "pipe", "--protocol", "generic", "--config", config)
		if r.Out != "0\n1\n" {
			t.Errorf("%s: with it ann and joe were answered %q\n%s", c.args, r.Out, r.Err)
		}
		p := harness.Start(t, "pipe", "--protocol", "generic", "--config", config)
		second := strings.TrimSpace(harness.OK(t, "", append(strings.Fields("token issue "+c.args), "--config", config)...))
		for _, want := range []string{"1\n", c.again} {
			p.Send("auth:joe:" + c.domain + ":" + second + "\n")
			p.Expect(want)
		}
	}
}

// checkExpiry compares the expiry in a token with the bounds of what it must be.
func checkExpiry(t *testing.T, said string, from, to time.Time) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^expires: (\S+) \(expires in `).FindStringSubmatch(said)
	if m == nil {
		t.Errorf("no expiry in %q", said)
		return
	}
	at, err := time.Parse(time.RFC3339, m[1])
	if err != nil || at.Before(from.Truncate(time.Second)) || at.After(to) {
		t.Errorf("it expires at %v, want %v to %v", m[1], from, to)
	}
}

func TestTokenErrors(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), tokenConfig)
	narrow := harness.ConfigFile(t, t.TempDir(), harness.PipeConfig)
	for _, c := range []struct{ args, stdin, err string }{
		{"token", "", "postern token --help"},
		{"token issue", "", "USER@DOMAIN"},
		{"token issue joe", "", "USER@DOMAIN"},
		{"token issue joe@both.example --kind jwt", "", "jsxc or totp"},
		{"token issue joe@jsxc.example --kind totp", "", "add a block `token \"totp\"`"},
		{"token issue joe@any.example --kind jsxc", "", "add a block `token \"jsxc\"`"},
		{"token issue joe@dom.example", "", "add a block"},
		{"token issue joe@dom.example --config " + narrow, "", "add a block"},
		{"token issue joe@any.example --config " + narrow, "", "neither configured nor registered"},
		{"token issue joe@jsxc.example --ttl soon", "", "--ttl"},
		{"token issue joe@jsxc.example --ttl 0s", "", "1s or more"},
		{"token issue joe@both.example --kind totp --ttl 1h", "", "--ttl is for jsxc"},
		{"token inspect", "", "empty"},
		{"token inspect", "password\n", "31 letters"},
		{"token inspect sometoken", "", "postern token inspect"}, // a token is no argument
	} {
		args := strings.Fields(c.args)
		if !strings.Contains(c.args, "--config") {
			args = append(args, "--config", config)
		}
		if r := harness.Command(t, c.stdin, args...); r.Code != 1 || r.Out != "" || !strings.Contains(r.Err, c.err) {
			t.Errorf("%s: exit status %d, %q, %q; want 1 and %q", c.args, r.Code, r.Out, r.Err, c.err)
		}
	}
}

// TestRegisteredDomainIsFirstClass: what works for a domain of the file works for a registered one: tokens,
// limits, and doctor.
func TestRegisteredDomainIsFirstClass(t *testing.T) {
	app := harness.JSXCServerWithKey(t, canaryDomain)
	config := harness.ConfigFile(t, t.TempDir(), harness.OneList+harness.RegistryOnly+harness.UsersBackend)
	harness.OK(t, "", "domain", "add", "reg.example", "--url", app.URL, "--secret-file", secretFile(t), "--config", config)
	issue := func() string {
		return strings.TrimSpace(harness.OK(t, "", "token", "issue", "joe@reg.example", "--config", config))
	}
	tokens := []string{issue()} // without a daemon
	s := harness.Serve(t, "--config", config)
	for _, token := range append(tokens, issue()) {
		if got := harness.Exchange(t, s.Address("generic"), "auth:ann:reg.example:"+token+"\nauth:joe:reg.example:"+token+"\n"); got != "0\n1\n" {
			t.Errorf("with the token of joe ann and joe were answered %q", got)
		}
	}
	for args, want := range map[string]string{
		"token issue joe@reg.example --kind totp": "registered domain", "token issue joe@none.example": "neither configured nor registered",
	} {
		if r := harness.Command(t, "", append(strings.Fields(args), "--config", config)...); r.Code != 1 || !strings.Contains(r.Err, want) {
			t.Errorf("%s: %+v", args, r)
		}
	}
	if got := harness.Exchange(t, s.Address("generic"), "auth:joe:reg.example:one\nauth:joe:reg.example:two\n"); got != "0\n0\n" {
		t.Errorf("wrong passwords: %q", got)
	}
	if shown := harness.OK(t, "", "limit", "show", "joe@reg.example", "--config", config); !strings.Contains(shown, `"refusals": 2`) {
		t.Errorf("limit show: %s", shown)
	}
	if out := harness.OK(t, "", "limit", "forget", "joe@reg.example", "--config", config); !strings.Contains(out, "refused passwords: 2") {
		t.Errorf("limit forget: %s", out)
	}
	report := harness.Command(t, "", "doctor", "--json", "--as", "joe@reg.example", "--ejabberd", "../../../LICENSE", "--config", config).Out
	for _, want := range []string{"the server knows joe@reg.example", "1 registered domain on 1 server", "registered domains: 1 secret of sufficient length"} {
		if !strings.Contains(report, want) {
			t.Errorf("doctor does not say %q:\n%s", want, report)
		}
	}
}

// TestTerminalShowsText: on a terminal, and with --json=false, what is shown is text; with --json it is JSON
// everywhere.
func TestTerminalShowsText(t *testing.T) {
	config, _ := harness.PipeUsers(t, "registry {}\n"+harness.OneList)
	s := harness.Serve(t, "--config", config)
	harness.Exchange(t, s.Address("generic"), harness.JoeLine)
	for args, text := range map[string]string{
		"cache show joe@dom.example": "accepted passwords: 1\n", "cache stats": "DOMAIN ", "limit show": "client addresses: 0 limited", "limit show joe@dom.example": "joe@dom.example: not limited",
		"user list": "joe@dom.example\n", "domain list": "DOMAIN ", "version": "postern devel",
	} {
		with := func(more string) string {
			return harness.OK(t, "", strings.Fields(args+" --config "+config+" "+more)...)
		}
		if out := with("--json=false"); !strings.Contains(out, text) || strings.HasPrefix(out, "{") {
			t.Errorf("%s --json=false: %s", args, out)
		}
		if out := with("--json"); !strings.HasPrefix(out, "{\n") && !strings.HasPrefix(out, "[\n") {
			t.Errorf("%s --json: %s", args, out)
		}
		master, slave := harness.Terminal(t)
		cmd := exec.Command(harness.Binary, strings.Fields(args+" --config "+config)...)
		cmd.Stdout = slave
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		_ = slave.Close()
		var shown strings.Builder
		_, _ = io.Copy(&shown, master) // until the other end hangs up
		if !strings.Contains(strings.ReplaceAll(shown.String(), "\r\n", "\n"), text) {
			t.Errorf("%s on a terminal: %q", args, shown.String())
		}
	}
	if r := harness.Command(t, "secret\n", "test", "auth", "joe@dom.example", "--json", "--config", config); r.Code != 0 || !strings.Contains(r.Out, `"verdict": "allow"`) {
		t.Errorf("test --json: %+v", r)
	}
}
