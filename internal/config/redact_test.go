package config

import (
	"strings"
	"testing"
)

func TestRedactLine(t *testing.T) {
	cases := []struct{ line, want string }{
		{`  address = "127.0.0.1:1"`, `  address = "127.0.0.1:1"`},
		{`  address = "127.0.0.1:1" # was ` + canary, `  address = "127.0.0.1:1"`},
		{`  address = "127.0.0.1:1" // was ` + canary, `  address = "127.0.0.1:1"`},
		{`  url = "http://h/#x"`, `  url = "http://h/#x"`},
		{`listen "x" { address = "127.0.0.1" }`, `listen "x" { address = "127.0.0.1" }`},
		{`  secret = "` + canary + `"`, `  secret = ` + hiddenValue},
		{`	secret="` + canary + `"`, `	secret= ` + hiddenValue},
		{`  secret = file("/etc/x")`, `  secret = file("/etc/x")`},
		{`  secrets = [env("A"), file( "b" )]`, `  secrets = [env("A"), file( "b" )]`},
		{`  secrets = [env("A"), "` + canary + `"]`, `  secrets = ` + hiddenValue},
		{`  secret = "a" ` + canary, `  secret = ` + hiddenValue},
		{`  secret = ` + canary, `  secret = ` + hiddenValue},
		{`  secret: ` + canary, `  secret: ` + hiddenValue},
		{`  "secret": "` + canary + `"`, `  ` + hiddenLine},
		{`  secrt = "` + canary + `"`, `  secrt = ` + hiddenValue},
		{`token "totp" { seed = "` + canary + `" }`, `token "totp" { seed = ` + hiddenValue},
		{`x { secret = "` + canary + `" }`, hiddenLine},
		{`timeout = "1s" secret = "` + canary + `"`, `timeout = "1s" secret = ` + hiddenValue},
		{`  "` + canary + `",`, `  ` + hiddenLine},
		{`  ` + canary, `  ` + hiddenLine},
		{`  ` + canary + `" = 5`, `  ` + hiddenLine},
		{`  "` + canary + `"=,`, `  ` + hiddenLine},
		{`  url = "https://joe:` + canary + `@h/x"`, `  url = "https://(not shown)@h/x"`},
		{`  url = "https://joe:` + canary + `/@` + canary + `@h/x"`, `  url = "https://(not shown)@h/x"`},
		{`  url = "https://h/x?token=` + canary + `"`, `  url = "https://h/x?token= ` + hiddenValue},
		{`  backends = [backend.users.x, "y"]`, `  backends = [backend.users.x, "y"]`},
		{`    backend.users.x,`, `    backend.users.x,`},
		{`}`, `}`},
		{``, ``},
	}
	r := newRedactor()
	for _, c := range cases {
		got := r.line(c.line)
		if strings.TrimRight(got, " ") != strings.TrimRight(c.want, " ") {
			t.Errorf("line(%q)\n got %q\nwant %q", c.line, got, c.want)
		}
	}
}

// TestNoProblemShowsASecret breaks a configuration with literal secrets at every
// byte, in every way a slip of the hand could: nothing printed may hold one.
func TestNoProblemShowsASecret(t *testing.T) {
	src := `
listen "ejabberd" { address = "127.0.0.1:1" }
backend "jsxc" "c" {
  url    = "https://cloud.example.org/"
  secret = "` + canary + `"
}
domain "*" {
  backends = [backend.jsxc.c]
  token "jsxc" {
    secrets = [
      "` + canary + `",
      env("TOKEN_SECRET"), "` + canary + `"]
  }
  token "totp" {
    seed    = "` + canary + `"
    secrets = ["` + canary + `"]
  }
}
`
	env := testEnv(t)
	check := func(at int, broken string) {
		t.Helper()
		_, problems := Parse("/etc/postern/readable.hcl", []byte(broken), env)
		// A byte put in or taken out inside a secret leaves most of it in one piece.
		if out := render(problems); strings.Contains(out, canary[:8]) || strings.Contains(out, canary[len(canary)-8:]) {
			t.Fatalf("broken at byte %d, a secret is shown:\n%s", at, out)
		}
	}
	for i := range len(src) {
		check(i, src[:i]+src[i+1:])
		check(i, src[:i])
		for _, slip := range []string{`"`, "\n", "=", "{", "}", "[", "#", "\\q", "${", "%{", " ", "<<E\n"} {
			check(i, src[:i]+slip+src[i:])
		}
	}
}

// TestSnippet shows the line, a marker under the place, and nothing that could move
// a terminal's cursor.
func TestSnippet(t *testing.T) {
	_, problems := Parse("f.hcl", []byte("\tdata_dir =\t5 \x1b[2J\n"), Env{})
	out := render(problems)
	if strings.Contains(out, "\x1b") {
		t.Errorf("an escape sequence came through: %q", out)
	}
	_, problems = Parse("f.hcl", []byte(base+"log {\n\tlevel\t= \"lüd\" # loud\n}\n"), Env{})
	want := "f.hcl:4:10: error: level \"lüd\" is unknown\n" +
		"    4 | \tlevel\t= \"lüd\"\n" +
		"      | \t     \t  ^^^^^\n" +
		"        known here: debug, info, warn, error\n"
	if got := render(problems); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	_, problems = Parse("f.hcl", []byte(base+"data_dir = ["+strings.Repeat(`"x", `, 100)+"]\n"), Env{})
	if p := problems[0]; len(p.Source) > 200 || len(p.Marker) > 200 {
		t.Errorf("a long line is shown in full: %d and %d bytes", len(p.Source), len(p.Marker))
	}
}
