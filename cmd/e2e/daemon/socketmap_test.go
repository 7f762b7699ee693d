package daemon

import (
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// The maps of socketmap: which domains are local where "*" answers for all, and the account of an
// address.
func TestSocketmapMaps(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), `
listen "socketmap" {
  address             = "127.0.0.1:0"
  recipient_delimiter = "+"
}
listen "logins" {
  protocol = "tcp_table"
  map      = "login"
  address  = "127.0.0.1:0"
}
backend "users" "local" { bcrypt_cost = 4 }
domain "block.example" { backends = [backend.users.local] }
domain "*" {
  backends = [backend.users.local]
  local    = ["Listed.example"]
}
`)
	add := func(user string) { harness.OK(t, "secret\n", "user", "add", user, "--config", config) }
	add("alice@file.example")
	s := harness.Serve(t, "--config", config)
	ask := func(query, want string) {
		t.Helper()
		if got := harness.Exchange(t, s.Address("socketmap"), harness.Netstring(query)); got != harness.Netstring(want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	for _, domain := range []string{"block.example", "BLOCK.example.", "listed.example", "file.example", "File.Example"} {
		ask("domain "+domain, "OK OK")
	}
	ask("domain gmail.com", "NOTFOUND ")
	ask("domain later.example", "NOTFOUND ")
	add("dave@later.example")
	ask("domain later.example", "OK OK")
	ask("domain *", "NOTFOUND ")
	ask("mailbox alice+news@File.example", "OK OK")
	ask("login alice@FILE.example", "OK alice@file.example")
	ask("login alice+news@file.example", "OK alice@file.example")
	ask("login bob@file.example", "NOTFOUND ")
	ask("aliases alice@file.example", "PERM not supported")
	if got := harness.Exchange(t, s.Address("logins"), "get alice@FILE.example\nget bob@file.example\n"); got != "200 alice@file.example\n500 no such user\n" {
		t.Errorf("tcp_table: %q", got)
	}
	harness.OK(t, "", "config", "check", config)
	harness.WriteFile(t, config, strings.Replace(harness.ReadText(config), `local    = ["Listed.example"]`, "", 1))
	if r := harness.RunCommand(t, "", harness.Binary, "config", "check", config); !strings.Contains(r.Out+r.Err, "local = [") {
		t.Errorf("config check: %s%s", r.Out, r.Err)
	}
}
