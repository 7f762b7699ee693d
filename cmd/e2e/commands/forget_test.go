package commands

import (
	"fmt"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// TestForget: what is removed is counted and gone afterwards, and the records of other users stay.
func TestForget(t *testing.T) {
	app := harness.NewWebApp(t, harness.JSONSecret)
	harness.BothWays(t, func(t *testing.T) string { return cacheWorld(t, app) }, func(t *testing.T, d *harness.Restartable) {
		for _, c := range []struct {
			args, report string
			again        []string
		}{
			{"eve@dom.example", "nothing to forget: postern knows nothing of eve@dom.example\n", cachedUsers},
			{"joe@dom.example", "forgotten: joe@dom.example\n  cache: 1 records with 1 accepted and 0 refused passwords\n  existence: removed\n", cachedUsers[:1]},
			{"joe@DOM.example.", "forgotten: joe@dom.example\n  cache: 1 records with 1 accepted", cachedUsers[:1]},
			{"dom.example", "forgotten: dom.example\n  cache: 2 records with 2 accepted", cachedUsers[:2]},
			{"--domain dom.example", "forgotten: dom.example\n  cache: 2 records with 2 accepted", cachedUsers[:2]},
			{"nowhere.example", "nothing to forget: postern knows nothing of nowhere.example\n", nil},
		} {
			out := d.Command(append([]string{"forget"}, strings.Fields(c.args)...)...)
			if !strings.HasPrefix(out, c.report) || strings.HasPrefix(out, "forgotten") != strings.Contains(out, "single-use tokens: 0 kept") {
				t.Errorf("%s: %s", c.args, out)
			}
			var again []string
			for _, u := range cachedUsers {
				before := app.Asked.Load()
				name := strings.Replace(u, "@", ":", 1)
				if got := d.Ask("auth:" + name + ":secret\nisuser:" + name + "\n"); got != "1\n1\n" {
					t.Fatalf("%s: %q", u, got)
				}
				if app.Asked.Load() != before {
					again = append(again, u)
				}
				d.Remembers(u)
			}
			if fmt.Sprint(again) != fmt.Sprint(c.again) {
				t.Errorf("%s: the backend was asked about %v, want %v", c.args, again, c.again)
			}
		}
	})
}

// TestForgetKeepsUsedTokens: a token that was used must not become usable again.
func TestForgetKeepsUsedTokens(t *testing.T) {
	file := harness.ConfigFile(t, t.TempDir(), `listen "generic" { address = "127.0.0.1:0" }
backend "users" "local" {}
domain "dom.example" {
  backends = [backend.users.local]
  token "totp" {
    seed    = "GEZDGNBVGY3TQOJQ"
    secrets = ["token-secret"]
  }
}
`)
	s := harness.Serve(t, "--config", file)
	token := strings.TrimSpace(harness.OK(t, "", "token", "issue", "joe@dom.example", "--kind", "totp", "--config", file))
	login := "auth:joe:dom.example:" + token + "\n"
	if got := harness.Exchange(t, s.Address("generic"), login); got != "1\n" {
		t.Fatalf("first use: %q", got)
	}
	for _, target := range []string{"joe@dom.example", "--domain=true dom.example", "dom.example"} {
		out := harness.OK(t, "", append([]string{"forget", "--config", file}, strings.Fields(target)...)...)
		if !strings.Contains(out, "single-use tokens: 1 kept") {
			t.Error(out)
		}
		if got := harness.Exchange(t, s.Address("generic"), login); got != "0\n" {
			t.Fatalf("the token was taken again: %q", got)
		}
	}
}

func TestForgetErrors(t *testing.T) {
	file := harness.ConfigFile(t, t.TempDir(), "backend \"users\" \"local\" {}\ndomain \"*\" { backends = [backend.users.local] }\n")
	for _, c := range []struct{ args, want string }{
		{"j\x01e", "is not a domain"},
		{"", "accepts 1 arg"},
		{"--domain joe@dom.example", "is not a domain"},
		{"a\x01@dom.example", "is not an address"},
	} {
		r := harness.Command(t, "", append([]string{"forget", "--config", file}, strings.Fields(c.args)...)...)
		if r.Code != 1 || !strings.Contains(r.Err, c.want) || r.Out != "" {
			t.Errorf("%q: %+v", c.args, r)
		}
	}
	if out := harness.OK(t, "", "forget", "joe@dom.example", "--config", file); !strings.Contains(out, "nothing to forget") {
		t.Error(out)
	}
}

// TestForgetLiftsLimits: what the limits have counted of a user is printed, and gone.
func TestForgetLiftsLimits(t *testing.T) {
	app := harness.NewWebApp(t, harness.Always(200, harness.JSONNo))
	file := cacheWorld(t, app)
	s := harness.Serve(t, "--config", file)
	if got := harness.Exchange(t, s.Address("generic"), "auth:joe:dom.example:one\nauth:joe:dom.example:two\n"); got != "0\n0\n" {
		t.Fatalf("%q", got)
	}
	for _, want := range []string{"limits: 2 refusals", "nothing to forget"} {
		if out := harness.OK(t, "", "forget", "joe@dom.example", "--config", file); !strings.Contains(out, want) {
			t.Errorf("the report lacks %q:\n%s", want, out)
		}
	}
}
