package peers

import (
	"strconv"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// slixmpp logs a user in by Debian 13's slixmpp. The ways and the outcome are those of
// testdata/slixmpp/login.py; token is the FAST token that the server gave.
func slixmpp(t *testing.T, port int, jid, way, secret string) (outcome, token string) {
	t.Helper()
	r := harness.Trixie(t)
	script := absolute(t, "testdata/slixmpp/login.py")
	result := r.Run(t, "", r.Program(t, "python3"), script, strconv.Itoa(port), jid, way, secret)
	outcome, token, _ = strings.Cut(strings.TrimSpace(result.Out), " ")
	if result.Code != 0 || outcome != "success" && token != "" {
		t.Errorf("%s of %s: exit status %d: %s%s", way, jid, result.Code, result.Out, result.Err)
	}
	return outcome, token
}

// fastOptions are Prosody's options for SASL2, Bind 2 and FAST.
func fastOptions(t *testing.T, r harness.Release) string {
	t.Helper()
	modules := r.Unpacked(t, "prosody-modules/usr/lib/prosody/modules")
	return "plugin_paths = { \"" + absolute(t, "../../../scripts/prosody") + "\", \"" + modules + "\" }\n" +
		`modules_enabled = { "saslauth"; "ping"; "register_ibr"; "user_account_management"; "admin_shell"; "sasl2"; "sasl2_bind2"; "sasl2_fast" }
`
}

// Clients that slixmpp makes log in by SASL, SASL2 and FAST, on the Prosody that has them.
func TestSlixmppOnProsody(t *testing.T) {
	r := harness.Trixie(t)
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig)
	harness.OK(t, "sec ret: päss\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	p := startProsody(t, r, posternAt(s.Address("ejabberd"), fastOptions(t, r)))
	want := func(way, secret, condition string) string {
		t.Helper()
		got, token := slixmpp(t, p.port, "joe@dom.example", way, secret)
		if got != condition || (token != "") != (way == "request" && got == "success") {
			t.Errorf("%s with %q: %s, token %q; want %s", way, secret, got, token, condition)
		}
		return token
	}
	for _, way := range []string{"sasl1", "sasl2", "request"} {
		want(way, "sec ret: päss", "success")
		want(way, "wrong", "not-authorized")
	}
	token := want("request", "sec ret: päss", "success")
	want("fast", token, "success")
	want("fast", token, "success")
	want("fast", token+"x", "not-authorized")
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	want("fast", token, "success") // Prosody knows the token
	for _, way := range []string{"sasl1", "sasl2"} {
		want(way, "sec ret: päss", "temporary-auth-failure")
	}
}
