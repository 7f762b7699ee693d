package commands

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// limitWorld is a daemon with small limits, for users and for addresses.
func limitWorld(t *testing.T, app *harness.WebApp) string {
	t.Helper()
	return harness.ConfigFile(t, t.TempDir(), `
listen "generic" { address = "127.0.0.1:0" }
listen "saslauthd" {
  address        = "127.0.0.1:0"
  default_domain = "dom.example"
}
limit {
  user_refusals    = 3
  address_refusals = 6
  first_pause      = "15m"
}
backend "json" "app" { url = "`+app.URL+`" }
domain "dom.example" {
  backends = [backend.json.app]
  cache { bcrypt_cost = 4 }
}
`)
}

// fromClient asks saslauthd's question with its fifth field, the client's address and port.
func fromClient(t *testing.T, address, user, password, client string) string {
	t.Helper()
	answer := harness.Exchange(t, address, harness.Fields(user, password, "imap", "", client+";40000"))
	return answer[min(2, len(answer)):min(4, len(answer))]
}

// TestLimitCommands: guessing is stopped, the log and the commands say so, the account's owner gets
// in, and the administrator can lift the limit.
func TestLimitCommands(t *testing.T) {
	app := harness.NewWebApp(t, harness.JSONSecret)
	config := limitWorld(t, app)
	d := harness.Serve(t, "--config", config)
	generic, sasl := d.Address("generic"), d.Address("saslauthd")
	if got := harness.Exchange(t, generic, "auth:joe:dom.example:secret\n"); got != "1\n" {
		t.Fatalf("the owner is answered %q", got)
	}
	for i := range 5 {
		if got := harness.Exchange(t, generic, fmt.Sprintf("auth:joe:dom.example:guess%d\n", i)); got != "0\n" {
			t.Errorf("guess %d is answered %q", i, got)
		}
	}
	if n := app.Asked.Load(); n != 4 {
		t.Errorf("the backend was asked %d times", n)
	}
	if got := harness.Exchange(t, generic, "auth:joe:dom.example:secret\n"); got != "1\n" {
		t.Errorf("the owner is answered %q", got)
	}
	for i := range 8 {
		if got := fromClient(t, sasl, fmt.Sprint("user", i), "guess", "192.0.2.7"); got != map[bool]string{true: "NO"}[i < 6] {
			t.Errorf("user%d: %q", i, got)
		}
	}
	if got := fromClient(t, sasl, "ann", "secret", "192.0.2.7") + fromClient(t, sasl, "ann", "secret", "192.0.2.8"); got != "OK" {
		t.Errorf("ann is answered %q", got)
	}
	said := func(want string) {
		t.Helper()
		d.Eventually(want, func() bool { return strings.Contains(d.Log.String(), want) })
	}
	for _, want := range []string{"source=limit-user", "source=limit-address", "client=192.0.2.7", "user limited", "client address limited"} {
		said(want)
	}
	type shown struct{ Refusals, Pauses int }
	show := func(name string) (s shown) {
		return harness.Decode[shown](t, harness.OK(t, "", "limit", "show", name, "--config", config))
	}
	if s := show("joe@dom.example"); s.Refusals != 3 || s.Pauses != 1 {
		t.Errorf("joe: %+v", s)
	}
	all := harness.OK(t, "", "limit", "show", "--config", config)
	for _, want := range []string{`"joe@dom.example"`, `"192.0.2.7/32"`, `"backend.json.app"`, `"watched": 6`} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is missing from %s", want, all)
		}
	}
	if stats := harness.OK(t, "", "cache", "stats", "--config", config); !strings.Contains(stats, `"limit_user": 2`) || !strings.Contains(stats, `"limit_address": 3`) {
		t.Errorf("stats: %s", stats)
	}
	if out := harness.OK(t, "", "limit", "forget", "joe@dom.example", "--config", config) + harness.OK(t, "", "limit", "forget", "192.0.2.7", "--config", config); out != "forgotten: joe@dom.example, refused passwords: 3, pauses: 1\nforgotten: 192.0.2.7/32, refused passwords: 6, pauses: 1\n" {
		t.Errorf("forget prints %q", out)
	}
	if s := show("joe@dom.example"); s.Refusals != 0 {
		t.Errorf("joe, forgotten: %+v", s)
	}
	if got := fromClient(t, sasl, "bob", "secret", "192.0.2.7"); got != "OK" {
		t.Errorf("bob is answered %q", got)
	}
	if s := show("192.0.2.7"); s.Refusals != 0 {
		t.Errorf("the address, forgotten: %+v", s)
	}
	for _, name := range []string{"192.0.2.9", "eve@dom.example"} {
		if out := harness.OK(t, "", "limit", "forget", name, "--config", config); !strings.HasPrefix(out, "nothing to forget: ") {
			t.Errorf("%s: %q", name, out)
		}
	}
	d.Signal(syscall.SIGUSR1)
	said("limits user=2 address=3 budget=0")
}
