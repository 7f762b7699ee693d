package actors

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/backend/oidctest"
)

// TestBearerFromModule: what Prosody's module is answered to bearer tokens, with a backend behind the provider that takes
// every password.
func TestBearerFromModule(t *testing.T) {
	var given atomic.Int64
	next := &fakeBackend{ask: func(context.Context, backend.Query) backend.Result {
		given.Add(1)
		return backend.Result{Class: backend.Accepted}
	}}
	r := newOIDCRig(t, func(s *setup, o *backend.OIDCOptions) {
		withNext(s, next)
		s.cfg.Domains[0].UnescapeJID = true
		s.cfg.Backends[0].URL, s.cfg.Backends[0].OIDC.Scopes = o.URL, []string{"mail"}
	})
	m := module{t, r.dial(r.listen(listenerBlock("ejabberd")))}
	if value, _ := m.ask("watch:0:dom.example"); value != 1|uint16(auth.WatchBearer)<<8 {
		t.Errorf("the domain has %#x", value)
	}
	if value, _ := m.ask("watch:0:other.example"); value != 1 {
		t.Errorf("a domain that is not served has %#x", value)
	}
	told := `{"status":"invalid_token","scope":"mail","openid-configuration":"` + r.URL + oidctest.Discovery + `"}`
	named := oidctest.RSA(t, "b")
	named.ID = "a"
	strange := oidctest.RSA(t, "c")
	good, bobs := r.token(nil), r.token(map[string]any{"preferred_username": "bob"})
	for _, c := range []struct {
		name, user, token string
		value             uint16
		rest              string
	}{
		{"good", "alice", good, 1, ""},
		{"again, without a name", "", good, 1, "alice"},
		{"first without a name", "", bobs, 1, "bob"},
		{"in capitals", "ALICE", good, 1, ""},
		{"in capitals, without a name", "", r.token(map[string]any{"preferred_username": "Alice"}), 1, "alice"},
		{"letters of another width", "", r.token(map[string]any{"preferred_username": "ａlice"}), 1, "ａlice"},
		{"letters of another width, as XMPP has them", "alice", r.token(map[string]any{"preferred_username": "ａlice"}), 0, told},
		{"with an escape", "", r.token(map[string]any{"preferred_username": "o'neil"}), 1, `o\27neil`},
		{"another's", "alice", bobs, 0, told},
		{"expired", "alice", r.token(map[string]any{"exp": 1}), 0, told},
		{"expired, without a name", "", r.token(map[string]any{"exp": 1}), 0, told},
		{"made up, without a name", "", named.Sign(t, r.Claims(r.clock.now(), nil)), 0, told},
		{"of another issuer", "alice", r.token(map[string]any{"iss": "https://evil.example"}), 0, told},
		{"of another issuer, without a name", "", r.token(map[string]any{"iss": "https://evil.example"}), 0, ""},
		{"without the claim", "", r.token(map[string]any{"preferred_username": 1}), 0, ""},
		{"a name that is none", "", r.token(map[string]any{"preferred_username": "a\nb"}), 0, ""},
		{"a password", "alice", "secret", 0, told},
		{"a password, without a name", "", "secret", 0, ""},
		{"of a key that is not known", "", strange.Sign(t, r.Claims(r.clock.now(), nil)), 2, ""},
	} {
		value, rest := m.ask("bearer:" + c.user + ":dom.example:xmpp 192.0.2.1 " + c.token)
		if value != c.value || rest != c.rest {
			t.Errorf("%s: %d %q, want %d %q", c.name, value, rest, c.value, c.rest)
		}
	}
	if value, rest := m.ask("bearer:alice:other.example:xmpp - " + good); value != 0 || rest != "" {
		t.Errorf("a domain that is not served: %d %q", value, rest)
	}
	if value, rest := m.ask("bearer::other.example:xmpp - " + good); value != 2 || rest != "" {
		t.Errorf("a domain that is not served, without a name: %d %q", value, rest)
	}
	if n := given.Load(); n != 0 {
		t.Errorf("tokens were given to the next backend %d times", n)
	}
	r.stop()
	text := r.log.String()
	if n := strings.Count(text, "msg=decision"); n != 21 {
		t.Errorf("%d lines of decisions", n)
	}
	if strings.Contains(text, strings.Split(good, ".")[1]) || !strings.Contains(text, "says who the user is") {
		t.Errorf("the log:\n%s", text)
	}
}

// TestBearerOfDomain: where the claim has the domain, the token of another domain's account does not let in.
func TestBearerOfDomain(t *testing.T) {
	r := newOIDCRig(t, func(s *setup, o *backend.OIDCOptions) {
		o.UsernameDomain = true
		s.cfg.Backends[0].URL = o.URL
	})
	m := module{t, r.dial(r.listen(listenerBlock("ejabberd")))}
	for name, want := range map[string]uint16{"alice@dom.example": 1, "alice@DOM.example": 1, "alice@other.example": 0, "alice": 0, "@dom.example": 0, "a@b@dom.example": 0} {
		value, rest := m.ask("bearer::dom.example:xmpp - " + r.token(map[string]any{"preferred_username": name}))
		if value != want || want == 1 && rest != "alice" {
			t.Errorf("%s: %d %q, want %d", name, value, rest, want)
		}
	}
}
