package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/backend/nextcloudtest"
)

// nextcloudUsers are the accounts of these tests.
func nextcloudUsers() []*nextcloudtest.User {
	return []*nextcloudtest.User{
		{ID: "broker", Groups: []string{"admin"}, AppPasswords: []nextcloudtest.AppPassword{{Secret: "service-secret", Login: "broker"}}},
		{ID: "joe", Password: "secret", Name: "Joe", Groups: []string{"staff"}},
		{ID: "ann", Password: "secret", Name: "Ann", Groups: []string{"staff"}, TwoFactor: true,
			AppPasswords: []nextcloudtest.AppPassword{{Secret: "app-secret", Login: "ann"}}},
		{ID: "max@nc.example", Password: "secret"},
		{ID: "off", Password: "secret", Disabled: true},
	}
}

// nextcloudConfig has a domain with a service account, one without, and chains with the local
// user bob.
func nextcloudConfig(t *testing.T, url string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nextcloud.password")
	if err := os.WriteFile(file, []byte("service-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(`
listen "generic" { address = "127.0.0.1:0" }
listen "ejabberd" {
  address = "127.0.0.1:0"
  changes = true
}
listen "tcp_table" { address = "127.0.0.1:0" }
backend "nextcloud" "cloud" {
  url            = %[1]q
  admin_user     = "broker"
  admin_password = file(%[2]q)
}
backend "nextcloud" "alone" { url = %[1]q }
backend "users" "local" { bcrypt_cost = 4 }
domain "nc.example" {
  backends = [backend.nextcloud.cloud]
  login    = ["{user}", "{user}@{domain}"]
  cache { bcrypt_cost = 4 }
}
domain "alone.example" {
  backends = [backend.nextcloud.alone]
  cache { bcrypt_cost = 4 }
}
domain "chain.example" {
  backends = [backend.nextcloud.cloud, backend.users.local]
  cache { bcrypt_cost = 4 }
}
domain "unsure.example" {
  backends = [backend.nextcloud.alone, backend.users.local]
  cache { bcrypt_cost = 4 }
}
`, url, file))
	for _, domain := range []string{"chain.example", "unsure.example"} {
		harness.OK(t, "secret\n", "user", "add", "bob@"+domain, "--config", config)
	}
	return config
}

// TestNextcloud asks the daemon in front of a Nextcloud, over three protocols.
func TestNextcloud(t *testing.T) {
	cloud, stop := nextcloudtest.Start(nextcloudUsers()...)
	defer stop()
	cloud.Change(func(s *nextcloudtest.State) { s.AllowListed = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	s := harness.Serve(t, "--config", nextcloudConfig(t, cloud.URL))
	yes, no, cannot := "\x00\x02\x00\x01", "\x00\x02\x00\x00", "\x00\x02\x00\x02"
	for _, q := range []struct{ ask, want string }{
		{"auth:joe:nc.example:secret", yes}, {"auth:joe:nc.example:bad", no},
		{"auth:ann:nc.example:secret", no}, {"auth:ann:nc.example:app-secret", yes},
		{"auth:max:nc.example:secret", yes}, {"auth:off:nc.example:secret", no}, {"auth:nobody:nc.example:secret", no},
		{"isuser:max:nc.example", yes}, {"isuser:off:nc.example", yes}, {"isuser:nobody:nc.example", no},
		{"setpass:joe:nc.example:new", yes}, {"auth:joe:nc.example:secret", no}, {"auth:joe:nc.example:new", yes},
		{"setpass:nobody:nc.example:new", cannot}, {"setpass:joe:alone.example:other", cannot},
		{"isuser:joe:alone.example", cannot}, {"auth:joe:alone.example:new", yes}, {"isuser:joe:alone.example", yes},
		// A chain: the first that knows the user decides.
		{"auth:bob:chain.example:secret", yes}, {"auth:bob:chain.example:bad", no}, {"auth:joe:chain.example:new", yes},
		{"isuser:bob:chain.example", yes}, {"isuser:nobody:chain.example", no},
		// "Cannot tell" of one never becomes the "no" of the chain.
		{"auth:bob:unsure.example:secret", yes}, {"isuser:nobody:unsure.example", cannot},
	} {
		if got := harness.Exchange(t, s.Address("ejabberd"), harness.Frame(q.ask)); got != q.want {
			t.Errorf("%s: answered %q, want %q", q.ask, got, q.want)
		}
	}
	want := `{"data":{"sharedRoster":{"ann":{"name":"Ann","groups":["staff"]},"joe":{"name":"Joe","groups":["staff"]}}},"result":"success"}`
	if got := harness.Exchange(t, s.Address("generic"), "roster:joe:nc.example\n"); got != want+"\n" {
		t.Errorf("roster: %q", got)
	}
	for ask, want := range map[string]string{
		"get joe@nc.example\n": "200 ", "get nobody@nc.example\n": "500 ", "get nobody@alone.example\n": "400 ",
	} {
		if got := harness.Exchange(t, s.Address("tcp_table"), ask); !strings.HasPrefix(got, want) {
			t.Errorf("%q: answered %q, want %q", ask, got, want)
		}
	}
	if got := cloud.Session("joe"); !strings.HasPrefix(got, "postern/") {
		t.Errorf("the session is named %q", got)
	}
	cloud.Change(func(s *nextcloudtest.State) { s.Maintenance = true })
	if got := harness.Exchange(t, s.Address("generic"), "auth:joe:nc.example:new\nauth:joe:nc.example:unheard\n"); got != "1\n0\n" {
		t.Errorf("in maintenance: %q", got)
	}
	s.Eventually("the outage in the log", func() bool { return strings.Contains(s.Log.String(), "maintenance") })
	for _, secret := range []string{"service-secret", "app-secret", "unheard"} {
		if strings.Contains(s.Log.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

// TestNextcloudSparesTheServer: one phone with an old password costs one attempt, a dozen of them
// do not lock all users out.
func TestNextcloudSparesTheServer(t *testing.T) {
	cloud, stop := nextcloudtest.Start(nextcloudUsers()...)
	defer stop()
	s := harness.Serve(t, "--config", nextcloudConfig(t, cloud.URL))
	login := func(lines ...string) string {
		return harness.Exchange(t, s.Address("generic"), strings.Join(lines, "\n")+"\n")
	}
	if got := login("auth:joe:alone.example:secret"); got != "1\n" {
		t.Fatalf("answered %q", got)
	}
	login(slices.Repeat([]string{"auth:joe:alone.example:old"}, 20)...)
	if got := cloud.Attempts("127.0.0.1"); got != 1 {
		t.Errorf("an old password, 20 times: %d failed logins at the server, want 1", got)
	}
	if got := login("auth:ann:alone.example:app-secret"); got != "1\n" {
		t.Fatalf("answered %q", got)
	}
	for i := range 12 {
		for _, user := range []string{"joe", "ann", "jane", "jack"} {
			login(fmt.Sprintf("auth:%s:alone.example:guess %d", user, i))
		}
	}
	if got := cloud.Attempts("127.0.0.1"); got != 5 {
		t.Errorf("a dozen guesses at four accounts: %d failed logins at the server, want 5", got)
	}
	if got := login("auth:joe:alone.example:secret"); got != "1\n" {
		t.Errorf("the right password: %q", got)
	}
	s.Eventually("the cure in the log", func() bool {
		return strings.Contains(s.Log.String(), "delays every login") && strings.Contains(s.Log.String(), "breaker changed")
	})
}

// TestNextcloudStep is how `postern test` shows it.
func TestNextcloudStep(t *testing.T) {
	cloud, stop := nextcloudtest.Start(nextcloudUsers()...)
	defer stop()
	config := nextcloudConfig(t, cloud.URL)
	r := harness.Command(t, "secret\n", "test", "auth", "ann@alone.example", "--config", config)
	if r.Code != 1 || !strings.Contains(r.Out, "app password") {
		t.Errorf("exit status %d:\n%s%s", r.Code, r.Out, r.Err)
	}
	if r = harness.Command(t, "", "test", "isuser", "joe@alone.example", "--config", config); r.Code != 75 || !strings.Contains(r.Out, "admin_user") {
		t.Errorf("exit status %d:\n%s%s", r.Code, r.Out, r.Err)
	}
}
