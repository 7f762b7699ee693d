package main

import (
	"strings"
	"testing"
)

// TestForget: what is removed is counted, is gone afterwards, and what is others' stays; with a
// running daemon and without.
func TestForget(t *testing.T) {
	for _, running := range []bool{true, false} {
		for _, c := range []struct {
			args, report string
			again        []string
		}{
			{"joe@dom.example", "forgotten: joe@dom.example\n  cache: 1 records with 1 accepted and 0 refused passwords\n  existence: removed\n", cachedUsers[:1]},
			{"joe@DOM.example.", "forgotten: joe@dom.example\n  cache: 1 records with 1 accepted", cachedUsers[:1]},
			{"eve@dom.example", "forgotten: eve@dom.example\n  cache: 0 records with 0 accepted and 0 refused passwords\n  existence: nothing\n", nil},
			{"--domain dom.example", "forgotten: of dom.example\n  cache: 2 records with 2 accepted", cachedUsers[:2]},
			{"--domain nowhere.example", "forgotten: of nowhere.example\n  cache: 0 records", nil},
		} {
			app := newWebApp(t, jsonSecret)
			file := cacheWorld(t, app)
			s := serve(t, "--config", file)
			ask := func(address string) {
				t.Helper()
				user, domain, _ := strings.Cut(address, "@")
				got := exchange(t, s.address("generic"), "auth:"+user+":"+domain+":secret\nisuser:"+user+":"+domain+"\n")
				if got != "1\n1\n" {
					t.Fatalf("%s: %q", address, got)
				}
			}
			for _, u := range cachedUsers {
				ask(u)
			}
			if !running {
				s.stop(15)
			}
			out := ok(t, "", append([]string{"forget", "--config", file}, strings.Fields(c.args)...)...)
			if !strings.HasPrefix(out, c.report) || !strings.Contains(out, "single-use tokens: 0 kept") {
				t.Errorf("running %v, %s: %s", running, c.args, out)
			}
			if !running {
				s = serve(t, "--config", file)
			}
			for _, u := range cachedUsers {
				before := app.asked.Load()
				ask(u)
				asked, want := app.asked.Load() > before, false
				for _, f := range c.again {
					want = want || f == u
				}
				if asked != want {
					t.Errorf("running %v, forget %s: %s asked again: %v", running, c.args, u, asked)
				}
			}
			s.stop(15)
		}
	}
}

// TestForgetKeepsUsedTokens: a token that was used must not become usable again.
func TestForgetKeepsUsedTokens(t *testing.T) {
	file := configFile(t, t.TempDir(), `listen "generic" { address = "127.0.0.1:0" }
backend "users" "local" {}
domain "dom.example" {
  backends = [backend.users.local]
  token "totp" {
    seed    = "GEZDGNBVGY3TQOJQ"
    secrets = ["token-secret"]
  }
}
`)
	s := serve(t, "--config", file)
	token := strings.TrimSpace(ok(t, "", "token", "issue", "joe@dom.example", "--kind", "totp", "--config", file))
	login := "auth:joe:dom.example:" + token + "\n"
	if got := exchange(t, s.address("generic"), login); got != "1\n" {
		t.Fatalf("first use: %q", got)
	}
	for _, whom := range []string{"joe@dom.example", "--domain=true dom.example"} {
		out := ok(t, "", append([]string{"forget", "--config", file}, strings.Fields(whom)...)...)
		if !strings.Contains(out, "single-use tokens: 1 kept") {
			t.Error(out)
		}
		if got := exchange(t, s.address("generic"), login); got != "0\n" {
			t.Fatalf("the token was taken again: %q", got)
		}
	}
}

func TestForgetErrors(t *testing.T) {
	file := configFile(t, t.TempDir(), "backend \"users\" \"local\" {}\ndomain \"*\" { backends = [backend.users.local] }\n")
	for _, c := range []struct{ args, want string }{
		{"joe", "has no domain"},
		{"", "accepts 1 arg"},
		{"--domain joe@dom.example", "is not a domain"},
		{"a\x01@dom.example", "is not an address"},
	} {
		r := command(t, "", append([]string{"forget", "--config", file}, strings.Fields(c.args)...)...)
		if r.code != 1 || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("%q: %+v", c.args, r)
		}
	}
	if out := ok(t, "", "forget", "joe@dom.example", "--config", file); !strings.Contains(out, "cache: 0 records") {
		t.Error(out)
	}
}
