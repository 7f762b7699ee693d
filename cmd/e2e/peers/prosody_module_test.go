package peers

import (
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/backend/nextcloudtest"
)

// withTokens is the usual configuration, with one-time tokens.
func withTokens() string {
	const cache = "  cache { bcrypt_cost = 4 }\n"
	return strings.Replace(harness.UsersConfig, cache, cache+`  token "totp" {
    seed    = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    secrets = ["totp-secret"]
  }
`, 1)
}

// X-TOKEN, the mechanism of mod_auth_token's clients, is offered where the domain has one-time tokens.
func TestProsodyTokens(t *testing.T) { harness.EachRelease(t, prosodyTokens) }

func prosodyTokens(t *testing.T, r harness.Release) {
	config := harness.ConfigFile(t, t.TempDir(), withTokens())
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	p := startProsody(t, r, posternAt(s.Address("ejabberd"), ""))
	p.eventually("secret")
	issue := func() string {
		return strings.TrimSpace(harness.OK(t, "", "token", "issue", "--kind", "totp", "joe@dom.example", "--config", config))
	}
	login := func(mechanism, user, secret, want string) {
		t.Helper()
		x, err := xmppOpen(p.port, "dom.example")
		if err != nil {
			t.Fatal(err)
		}
		defer x.c.Close()
		if !strings.Contains(x.offers, "<mechanism>X-TOKEN</mechanism>") || !strings.Contains(x.offers, "<mechanism>PLAIN</mechanism>") {
			t.Errorf("offered: %s", x.offers)
		}
		if got, err := x.sasl(mechanism, "\x00"+user+"\x00"+secret); err != nil || got != want {
			t.Errorf("%s by %s: %s, %v; want %s", user, mechanism, got, err, want)
		}
	}
	for _, mechanism := range []string{"X-TOKEN", "PLAIN"} {
		once := issue()
		login(mechanism, "ann", once, "not-authorized")
		login(mechanism, "joe", once, "success")
		login(mechanism, "joe", once, "not-authorized")
	}
	login("X-TOKEN", "joe", "secret", "success")
	x, err := xmppOpen(p.port, "slow.example") // has none
	if err != nil {
		t.Fatal(err)
	}
	defer x.c.Close()
	if strings.Contains(x.offers, "X-TOKEN") {
		t.Errorf("offered without tokens: %s", x.offers)
	}
	harness.WaitFor(t, "the client's address in the log", func() bool { return strings.Contains(s.Log.String(), "client=127.0.0.1") })
}

// The option has a name that prosodyctl does not take for a port of the server; the names of 0.1 work, with
// a line in the log.
func TestProsodyOptionNames(t *testing.T) { harness.EachRelease(t, prosodyOptionNames) }

func prosodyOptionNames(t *testing.T, r harness.Release) {
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	host, port, err := net.SplitHostPort(s.Address("ejabberd"))
	if err != nil {
		t.Fatal(err)
	}
	old := startProsody(t, r, "authentication = \"postern\"\npostern_host = \""+host+"\"\npostern_port = "+port+"\n")
	old.eventually("secret")
	harness.FileSays(t, old.log, "write postern_address = \""+s.Address("ejabberd")+"\"")
	p := startProsody(t, r, "")
	text := strings.Replace(harness.ReadText(p.config), "VirtualHost \"dom.example\"",
		"VirtualHost \"dom.example\"\n"+posternAt(s.Address("ejabberd"), ""), 1)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	check := p.Run(t, "", p.Program(t, "prosodyctl"), "--root", "--config", p.config, "check", "config")
	if !strings.Contains(check.Out, "Checking config") || strings.Contains(check.Out+check.Err, "postern_") {
		t.Errorf("prosodyctl check config:\n%s%s", check.Out, check.Err)
	}
}

// What servers remember by themselves ends with the password: Prosody is told when it was last changed,
// keeps that while postern is away, and ends sessions if it is to.
func TestProsodyAccountInfo(t *testing.T) { harness.EachRelease(t, prosodyAccountInfo) }

func prosodyAccountInfo(t *testing.T, r harness.Release) {
	config := harness.ConfigFile(t, t.TempDir(), withTokens())
	for _, user := range []string{"joe", "ann", "eve"} {
		harness.OK(t, "secret\n", "user", "add", user+"@dom.example", "--config", config)
	}
	s := harness.Serve(t, "--config", config)
	p := startProsody(t, r, posternAt(s.Address("ejabberd"), "cut_sessions = true"))
	p.eventually("secret")
	updated := func(user string) float64 {
		t.Helper()
		r := p.Run(t, "", p.Program(t, "prosodyctl"), "--config", p.config, "--root", "shell",
			`> string.format("updated %.3f", require "core.usermanager".get_provider("dom.example").get_account_info("`+user+`").password_updated or 0)`)
		m := regexp.MustCompile(`updated ([0-9.]+)`).FindStringSubmatch(r.Out)
		if m == nil {
			t.Fatalf("no time: %s%s", r.Out, r.Err)
		}
		at, _ := strconv.ParseFloat(m[1], 64)
		return at
	}
	if at := updated("joe"); at != 0 {
		t.Errorf("changed at %v, before any change", at)
	}
	joe := xmppClient(t, p.port, "joe", "dom.example", "secret")
	if got, err := joe.register("joe", "second"); err != nil || got != "result" {
		t.Fatalf("change of the password: %s, %v", got, err)
	}
	first := updated("joe")
	if first == 0 || updated("ann") != 0 {
		t.Errorf("changed at %v, another at %v", first, updated("ann"))
	}
	if err := joe.ping(); err != nil {
		t.Errorf("the session that changed its password: %v", err)
	}

	// What an administrator does at postern ends the session.
	harness.OK(t, "", "forget", "joe@dom.example", "--config", config)
	if text, err := until(joe.c, "</stream:stream>"); err != nil || !strings.Contains(text, "reset") {
		t.Errorf("after a forget: %q, %v", text, err)
	}
	harness.WaitFor(t, "a later time", func() bool { return updated("joe") > first })
	second := updated("joe")
	ann, eve := xmppClient(t, p.port, "ann", "dom.example", "secret"), xmppClient(t, p.port, "eve", "dom.example", "secret")
	if got, err := eve.ask("set", "<query xmlns='jabber:iq:register'><remove/></query>"); err != nil || got != "result" {
		t.Errorf("removal: %s, %v", got, err)
	}
	if at := updated("eve"); at == 0 {
		t.Error("a removed account has not changed")
	}

	// An account that is removed at postern is gone for Prosody, too.
	harness.OK(t, "secret\n", "user", "add", "max@dom.example", "--config", config)
	max := xmppClient(t, p.port, "max", "dom.example", "secret")
	harness.OK(t, "", "user", "remove", "max@dom.example", "--config", config)
	if text, err := until(max.c, "</stream:stream>"); err != nil || !strings.Contains(text, "Account deleted") {
		t.Errorf("after a removal: %q, %v", text, err)
	}

	// While postern is away, and Prosody has started again, its last word counts.
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	if at := updated("joe"); at != second {
		t.Errorf("changed at %v while postern is away, want %v", at, second)
	}
	if err := ann.ping(); err != nil {
		t.Error(err)
	}
	p.again()
	if at := updated("joe"); at != second {
		t.Errorf("changed at %v after a restart, want %v", at, second)
	}

	// What is forgotten while postern is away counts when it is back.
	harness.OK(t, "", "forget", "joe@dom.example", "--config", config)
	keepAddress(t, config, s.Address("ejabberd"))
	harness.Serve(t, "--config", config)
	harness.WaitFor(t, "a later time", func() bool { return updated("joe") > second })
}

// A client that reconnects by FAST is let in without its password, but not after that was changed, nor the
// account disabled or removed, wherever that was done; also while postern is away. Prosody 0.12 does not ask
// for the time of a change.
func TestProsodyFast(t *testing.T) {
	users := []*nextcloudtest.User{{ID: "boss", Password: "secret", Groups: []string{"admin"}}}
	for _, id := range []string{"joe", "ann", "off", "gone"} {
		users = append(users, &nextcloudtest.User{ID: id, Password: "secret"})
	}
	cloud, stop := nextcloudtest.Start(users...)
	t.Cleanup(stop)
	config := harness.ConfigFile(t, t.TempDir(), `
listen "ejabberd" { address = "127.0.0.1:0" }
backend "nextcloud" "cloud" {
  url            = "`+cloud.URL+`"
  admin_user     = "boss"
  admin_password = "secret"
}
domain "dom.example" {
  backends = [backend.nextcloud.cloud]
  cache {
    bcrypt_cost = 4
    exists_ttl  = "0s"
  }
}
`)
	s, r := harness.Serve(t, "--config", config), harness.Trixie(t)
	p := startProsody(t, r, posternAt(s.Address("ejabberd"), fastOptions(t, r)))
	p.eventually("secret")
	want := func(what, user, way, secret, condition string) (token string) {
		t.Helper()
		got, token := slixmpp(t, p.port, user+"@dom.example", way, secret)
		if got != condition {
			t.Errorf("%s: %s of %s: %s, want %s", what, way, user, got, condition)
		}
		return token
	}
	tokens := map[string]string{}
	for _, user := range []string{"joe", "off", "gone", "ann"} {
		tokens[user] = want("at first", user, "request", "secret", "success")
		want("at first", user, "fast", tokens[user], "success")
	}
	want("a wrong password", "joe", "sasl2", "wrong", "not-authorized")
	want("after it", "joe", "fast", tokens["joe"], "success")

	cloud.Change(func(state *nextcloudtest.State) {
		for _, u := range state.Users {
			switch u.ID {
			case "joe":
				u.Password = "second"
			case "off":
				u.Disabled = true
			}
		}
		state.Users = slices.DeleteFunc(state.Users, func(u *nextcloudtest.User) bool { return u.ID == "gone" })
	})
	token := want("a new password alone", "joe", "request", "second", "success")
	want("a new password alone", "joe", "fast", token, "success")
	want("the old one is refused", "joe", "sasl2", "secret", "not-authorized")
	want("the old one was refused", "joe", "fast", token, "credentials-expired")
	token = want("after that", "joe", "request", "second", "success")
	want("after that", "joe", "fast", token, "success")
	want("disabled at the backend", "off", "fast", tokens["off"], "credentials-expired")
	want("removed at the backend", "gone", "fast", tokens["gone"], "credentials-expired")
	want("of another user", "ann", "fast", tokens["ann"], "success")

	// Forgotten by an administrator, just before postern goes away.
	harness.OK(t, "", "forget", "joe@dom.example", "--config", config)
	want("forgotten", "joe", "fast", token, "credentials-expired")
	harness.OK(t, "", "forget", "ann@dom.example", "--config", config)
	harness.FileSays(t, p.log, "ann@dom.example was changed")
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	want("while postern is away", "ann", "fast", tokens["ann"], "credentials-expired")
}
