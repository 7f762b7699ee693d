package peers

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"postern/cmd/e2e/harness"
	"postern/internal/backend/oidctest"
)

// prosodyBearerConfig is postern behind Prosody with users of a provider, beside a domain without one. It takes the issuer
// and the path of a users file.
const prosodyBearerConfig = `
listen "ejabberd" {
  address  = "127.0.0.1:0"
  deadline = "100s" # this machine may be slow
}
backend "oidc" "idp" {
  timeout        = "60s"
  issuer         = %[1]q
  audience       = "postern"
  username_claim = "preferred_username"
  required_scope = "xmpp"
}
backend "users" "local" { path = %[2]q }
domain "dom.example" { backends = [backend.oidc.idp] }
domain "slow.example" { backends = [backend.users.local] }
`

// chat is postern behind Prosody, with a provider.
type chat struct {
	*harness.Server
	*prosody
	t   *testing.T
	idp *oidctest.Provider
	key oidctest.Key
}

func newChat(t *testing.T, r harness.Release, options string) *chat {
	t.Helper()
	c := &chat{t: t, idp: oidctest.Start(t), key: oidctest.RSA(t, "a")}
	c.idp.Publish(c.key)
	dir := t.TempDir()
	c.Server = harness.Serve(t, "--config", harness.ConfigFile(t, dir, fmt.Sprintf(prosodyBearerConfig, c.idp.URL, dir+"/users")))
	c.prosody = startProsody(t, r, posternAt(c.Address("ejabberd"), options))
	return c
}

// token is one for alice that is good for XMPP, with changes to its claims.
func (c *chat) token(changes map[string]any) string {
	claims := map[string]any{"scope": "openid xmpp"}
	for name, v := range changes {
		claims[name] = v
	}
	return c.key.Sign(c.t, c.idp.Claims(time.Now(), claims))
}

// open connects once postern has said what it can do.
func (c *chat) open(host, offered string) *xmpp {
	c.t.Helper()
	var x *xmpp
	harness.WaitFor(c.t, offered+" is offered", func() bool {
		var err error
		if x, err = xmppOpen(c.port, host); err != nil {
			return false
		}
		if !strings.Contains(x.offers, "<mechanism>"+offered+"</mechanism>") {
			_ = x.c.Close()
			return false
		}
		return true
	})
	c.t.Cleanup(func() { _ = x.c.Close() })
	return x
}

// bearer sends a message of OAUTHBEARER, and returns "success" or the failure's condition, and why the server says that a
// token is refused.
func (x *xmpp) bearer(message string) (outcome string, why map[string]string, err error) {
	fmt.Fprintf(x.c, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='OAUTHBEARER'>%s</auth>", base64.StdEncoding.EncodeToString([]byte(message)))
	return x.bearerEnd("AQ==")
}

// bearerEnd waits for the end of a login, and answers a challenge.
func (x *xmpp) bearerEnd(answer string) (outcome string, why map[string]string, err error) {
	text, err := until(x.c, "xmpp-sasl'/>", "</failure>", "</challenge>")
	if err != nil {
		return text, nil, err
	}
	if challenge, challenged := strings.CutSuffix(text, "</challenge>"); challenged {
		reason, err := base64.StdEncoding.DecodeString(challenge[strings.LastIndexByte(challenge, '>')+1:])
		if err == nil {
			err = json.Unmarshal(reason, &why)
		}
		if err != nil {
			return text, nil, err
		}
		fmt.Fprintf(x.c, "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</response>", answer)
		if text, err = until(x.c, "xmpp-sasl'/>", "</failure>"); err != nil {
			return text, why, err
		}
	}
	for _, condition := range []string{"success", "not-authorized", "temporary-auth-failure", "malformed-request", "invalid-authzid", "invalid-mechanism"} {
		if strings.Contains(text, "<"+condition) {
			return condition, why, nil
		}
	}
	return text, why, nil
}

// message is a client's message with a token.
func message(header, token string) string { return header + "\x01auth=Bearer " + token + "\x01\x01" }

// Clients log in with bearer tokens where the domain takes them: by OAUTHBEARER on Prosody 13, and in the password field of
// PLAIN everywhere. Prosody 0.12 does not know OAUTHBEARER.
func TestProsodyBearer(t *testing.T) { harness.EachRelease(t, prosodyBearer) }

func prosodyBearer(t *testing.T, r harness.Release) {
	c := newChat(t, r, "c2s_unauthed_stanza_size_limit = 200000; c2s_stanza_size_limit = 200000") // so that the module has to refuse what is too long
	expired, bobs := c.token(map[string]any{"exp": 1}), c.token(map[string]any{"preferred_username": "bob"})
	x := c.open("slow.example", "PLAIN")
	if strings.Contains(x.offers, "OAUTHBEARER") {
		t.Errorf("offered without an issuer: %s", x.offers)
	}
	way := "OAUTHBEARER"
	if !r.Trixie() {
		way = "sasl1"
		harness.FileSays(t, c.mechanisms("dom%2eexample"), offersBearer)
		if x := c.open("dom.example", "PLAIN"); strings.Contains(x.offers, "OAUTHBEARER") {
			t.Errorf("Prosody 0.12 offers %s", x.offers)
		}
	} else {
		c.open("dom.example", "OAUTHBEARER")
	}
	for _, step := range []struct{ name, token, want string }{
		{"right", c.token(nil), "success"},
		{"expired", expired, "not-authorized"},
		{"without the scope", c.token(map[string]any{"scope": "openid"}), "not-authorized"},
		{"of 5 kB", c.token(map[string]any{"groups": strings.Repeat("staff ", 600)}), "success"},
	} {
		if got, _ := slixmpp(t, c.port, "alice@dom.example", way, step.token); got != step.want {
			t.Errorf("%s by %s: %s, want %s", step.name, way, got, step.want)
		}
	}
	for token, want := range map[string]string{c.token(nil): "success", bobs: "not-authorized"} {
		if got, _ := slixmpp(t, c.port, "alice@dom.example", "sasl1", token); got != want {
			t.Errorf("a token in the password field: %s, want %s", got, want)
		}
	}
	if r.Trixie() {
		prosodyBearerMessages(c, expired, bobs)
	}
	stranger := oidctest.RSA(t, "stranger").Sign(t, c.idp.Claims(time.Now(), map[string]any{"scope": "xmpp"}))
	if got, _ := slixmpp(t, c.port, "alice@dom.example", way, stranger); got != "temporary-auth-failure" {
		t.Errorf("a token of an unknown key: %s", got)
	}
	if r.Trixie() {
		prosodyBearerAway(c)
	}
	for file, text := range map[string]string{"postern's": c.Server.Log.String(), "Prosody's": harness.ReadText(c.prosody.log)} {
		for _, token := range []string{expired, bobs} {
			if part := strings.Split(token, ".")[1]; strings.Contains(text, part) {
				t.Errorf("a token is in %s log", file)
			}
		}
	}
	c.Server.Eventually("the reason and the client in the log", func() bool {
		log := c.Server.Log.String()
		return strings.Contains(log, "the token has expired") && strings.Contains(log, "client=127.0.0.1")
	})
}

// offersBearer is in the file once the domain takes tokens.
const offersBearer = `["bearer"] = true`

// mechanisms is the file in which the module keeps what it offers.
func (p *prosody) mechanisms(host string) string {
	return strings.TrimSuffix(p.config, "prosody.cfg.lua") + host + "/postern_mechanisms.dat"
}

// prosodyBearerMessages: what clients may write, and may not.
func prosodyBearerMessages(c *chat, expired, bobs string) {
	c.t.Helper()
	good := c.token(nil)
	for _, step := range []struct{ name, message, want string }{
		{"who the client is", message("n,a=alice@dom.example,", good), "success"},
		{"its name alone, in capitals", message("y,a=ALICE,", good), "success"},
		{"a name in capitals, in the token", message("n,,", c.token(map[string]any{"preferred_username": "Alice"})), "success"},
		{"another user, whose name is one to XMPP", message("n,,", c.token(map[string]any{"preferred_username": "ａlice"})), "not-authorized"},
		{"more fields", "n,,\x01host=dom.example\x01port=5222\x01auth=bearer  " + good + "\x01\x01", "success"},
		{"the token of another", message("n,a=alice,", bobs), "not-authorized"},
		{"another name than the token's", message("n,a=bob@dom.example,", good), "not-authorized"},
		{"another host", message("n,a=alice@slow.example,", good), "invalid-authzid"},
		{"a broken name", message("n,a=al=ice,", good), "invalid-authzid"},
		{"expired", message("n,,", expired), "not-authorized"},
		{"no name, and none in the token", message("n,,", c.token(map[string]any{"preferred_username": nil})), "not-authorized"},
		{"no name in what is no token", message("n,,", "secret"), "not-authorized"},
		{"a password", message("n,a=alice,", "secret"), "not-authorized"},
		{"a name that is none", message("n,,", c.token(map[string]any{"preferred_username": "a@b"})), "not-authorized"},
		{"64 kB", message("n,a=alice,", strings.Repeat("x", 64<<10)), "not-authorized"},
		{"64 kB without a name", message("n,,", strings.Repeat("x", 64<<10)), "not-authorized"},
		{"longer than a password may be", message("n,a=alice,", "eyJ"+strings.Repeat("x", 8190)), "not-authorized"},
		{"channel binding", message("p=tls-exporter,,", good), "malformed-request"},
		{"no token", "n,,\x01host=dom.example\x01\x01", "malformed-request"},
		{"an empty token", message("n,,", ""), "malformed-request"},
		{"two tokens", "n,,\x01auth=Bearer " + expired + "\x01auth=Bearer " + good + "\x01\x01", "malformed-request"},
		{"another scheme", "n,,\x01auth=Basic " + good + "\x01\x01", "malformed-request"},
		{"NUL", message("n,,", good+"\x00"), "malformed-request"},
		{"NUL in the name", message("n,a=alice\x00,", good), "malformed-request"},
		{"a colon in the name", message("n,a=alice:dom.example,", good), "invalid-authzid"},
		{"no end", strings.TrimSuffix(message("n,,", good), "\x01"), "malformed-request"},
		{"nothing", "", "malformed-request"},
	} {
		x := c.open("dom.example", "OAUTHBEARER")
		got, why, err := x.bearer(step.message)
		if err != nil || got != step.want {
			c.t.Errorf("%s: %s, %v; want %s", step.name, got, err, step.want)
		}
		if (why != nil) != (step.want == "not-authorized") || why != nil && why["status"] != "invalid_token" {
			c.t.Errorf("%s: the client is told %v", step.name, why)
		}
		if step.name == "expired" && (why["scope"] != "xmpp" || why["openid-configuration"] != c.idp.URL+oidctest.Discovery) {
			c.t.Errorf("the client is told %v", why)
		}
	}
	x := c.open("dom.example", "OAUTHBEARER") // wrong, and then right
	for i, token := range []string{expired, bobs, good} {
		want := "not-authorized"
		if i == 2 {
			want = "success"
		}
		if got, _, err := x.bearer(message("n,a=alice,", token)); err != nil || got != want {
			c.t.Errorf("login %d on a connection: %s, %v; want %s", i, got, err, want)
		}
	}
	x = c.open("dom.example", "OAUTHBEARER") // no second message may bring a token
	fmt.Fprintf(x.c, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='OAUTHBEARER'>%s</auth>", harness.Base64(message("n,a=alice,", expired)))
	if got, _, err := x.bearerEnd(harness.Base64(message("n,a=alice,", good))); err != nil || got != "not-authorized" {
		c.t.Errorf("a token in answer to the reason: %s, %v", got, err)
	}
}

// prosodyBearerAway: without postern logins fail as temporary, and the mechanism stays, also over a restart.
func prosodyBearerAway(c *chat) {
	c.t.Helper()
	_ = c.Server.Cmd.Process.Kill()
	<-c.Server.Ended
	for range 2 {
		x := c.open("dom.example", "OAUTHBEARER")
		if got, why, err := x.bearer(message("n,,", c.token(nil))); err != nil || got != "temporary-auth-failure" || why != nil {
			c.t.Errorf("while postern is away: %s, %v, %v", got, why, err)
		}
		c.again()
	}
}

// While a token waits for its provider, Prosody serves others. One that its client has left meanwhile does no harm.
func TestProsodyBearerWaits(t *testing.T) {
	c := newChat(t, harness.Trixie(t), "postern_timeout = 120")
	release := make(chan struct{})
	c.idp.Set(oidctest.Keys, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		c.idp.Lock()
		defer c.idp.Unlock()
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: c.idp.Published})
	})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	waits, gone := c.open("dom.example", "OAUTHBEARER"), c.open("dom.example", "OAUTHBEARER")
	for _, x := range []*xmpp{gone, waits} {
		fmt.Fprintf(x.c, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='OAUTHBEARER'>%s</auth>", harness.Base64(message("n,,", c.token(nil))))
	}
	harness.WaitFor(t, "the provider is asked", func() bool { return c.idp.Asked(oidctest.Keys) > 0 })
	_ = gone.c.Close()
	x := c.open("dom.example", "OAUTHBEARER")
	if got, why, err := x.bearer(message("n,,", c.token(map[string]any{"exp": 1}))); err != nil || got != "not-authorized" {
		t.Errorf("another meanwhile: %s, %v, %v", got, why, err)
	}
	free()
	if got, _, err := waits.bearerEnd("AQ=="); err != nil || got != "success" {
		t.Errorf("once the provider answers: %s, %v", got, err)
	}
}

// The same by SASL2 (XEP-0388), wrong and then right on a connection.
func TestProsodyBearerSASL2(t *testing.T) {
	r := harness.Trixie(t)
	c := newChat(t, r, fastOptions(t, r))
	x := c.open("dom.example", "OAUTHBEARER")
	if !strings.Contains(x.offers, "<authentication xmlns='urn:xmpp:sasl:2'>") {
		t.Fatalf("no SASL2: %s", x.offers)
	}
	for _, step := range []struct{ token, ends string }{
		{c.token(map[string]any{"exp": 1}), "<not-authorized"},
		{c.token(map[string]any{"preferred_username": "ａlice"}), "<not-authorized"},
		{"", "<malformed-request"},
		{c.token(nil), "<authorization-identifier>alice@dom.example<"},
	} {
		fmt.Fprintf(x.c, "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='OAUTHBEARER'><initial-response>%s</initial-response></authenticate>",
			harness.Base64(message("n,,", step.token)))
		text, err := until(x.c, "</success>", "</failure>", "</challenge>")
		if strings.HasSuffix(text, "</challenge>") {
			fmt.Fprint(x.c, "<response xmlns='urn:xmpp:sasl:2'>AQ==</response>")
			text, err = until(x.c, "</failure>")
		}
		if err != nil || !strings.Contains(text, step.ends) {
			t.Errorf("want %s, got %s, %v", step.ends, text, err)
		}
	}
}

// Tokens are as passwords: they are not offered without encryption, unless PLAIN is.
func TestProsodyBearerUnencrypted(t *testing.T) {
	c := newChat(t, harness.Trixie(t), "allow_unencrypted_plain_auth = false")
	harness.FileSays(t, c.mechanisms("dom%2eexample"), offersBearer)
	x, err := xmppOpen(c.port, "dom.example")
	if err != nil {
		t.Fatal(err)
	}
	defer x.c.Close()
	if strings.Contains(x.offers, "OAUTHBEARER") {
		t.Errorf("offered without encryption: %s", x.offers)
	}
	if got, _, err := x.bearer(message("n,,", c.token(nil))); err != nil || got != "invalid-mechanism" {
		t.Errorf("without encryption: %s, %v", got, err)
	}
}
