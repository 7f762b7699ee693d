package backend

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend/oidctest"
)

// opaque is an opaque token.
const opaque = "opaque.0123456789abcdef0123456789abcdef"

// active is what a provider says of an opaque token that lets alice in, with changes.
func (r *oidcRig) active(changes change) map[string]any {
	about := r.Claims(r.now(), changes)
	about["active"], about["token_type"] = true, "Bearer"
	return about
}

func TestOIDCIntrospection(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) { o.Introspection = true })
	key := oidctest.RSA(t, "a")
	r.Publish(key)
	set := func(about map[string]any) {
		r.Lock()
		defer r.Unlock()
		r.Active = map[string]map[string]any{opaque: about}
	}
	r.want("not active", r.login(opaque), Refused, "not active")
	if got := r.login(opaque); got.Final || got.Absent {
		t.Errorf("it may be another backend's password: %+v", got)
	}
	set(r.active(nil))
	if got := r.login(opaque); got.Class != Accepted || got.Account != "alice" || got.Expires.Unix() != r.now().Add(time.Hour).Unix() {
		t.Errorf("active: %+v", got)
	}
	r.want("for another user", r.loginAs("bob", opaque), Refused, "another account")
	set(r.active(change{"exp": nil}))
	if got := r.login(opaque); got.Class != Accepted || got.Expires.IsZero() || got.Expires.After(r.now().Add(untold)) {
		t.Errorf("without an end: %+v", got)
	}
	for name, c := range map[string]struct {
		changes change
		class   Class
	}{
		"another audience": {change{"aud": "shop"}, Refused},
		"no audience":      {change{"aud": nil}, Refused},
		"refresh token":    {change{"typ": "Refresh"}, Refused},
		"ID token":         {change{"nonce": "x"}, Refused},
		"expired":          {change{"exp": r.now().Add(-time.Hour).Unix()}, Refused},
		"not yet":          {change{"nbf": r.now().Add(time.Hour).Unix()}, Unsure},
		"no name":          {change{"preferred_username": nil}, Misconfigured},
	} {
		set(r.active(c.changes))
		got := r.login(opaque)
		if r.want(name, got, c.class, ""); !got.Final {
			t.Errorf("%s: an active token goes to the next backend", name)
		}
	}
	n := r.Asked(oidctest.Introspec)
	r.want("a JWT is verified here", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	r.want("a password is none", r.login("hunter2"), Refused, "not a token")
	if r.Asked(oidctest.Introspec) != n {
		t.Error("the provider was asked about a JWT or a password")
	}
}

// Without jwt, signed tokens are put to the provider as well.
func TestOIDCIntrospectionAlone(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) {
		o.JWT, o.Introspection, o.Audience, o.Clients = false, true, "", []string{"webmail"}
	})
	token := oidctest.RSA(t, "a").Sign(t, r.Claims(r.now(), nil))
	r.want("revoked", r.login(token), Refused, "not active")
	r.Active = map[string]map[string]any{token: r.active(change{"aud": nil})}
	r.want("active", r.login(token), Accepted, "")
	r.Active = map[string]map[string]any{token: r.active(change{"azp": "shop"})}
	r.want("of another client", r.login(token), Refused, "another client")
	if n := r.Asked(oidctest.Keys); n != 0 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

func TestOIDCPasswordGrant(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) { o.PasswordGrant = true })
	key := oidctest.RSA(t, "a")
	r.Publish(key)
	r.Users = map[string]string{"alice": "secret &=+%"}
	if got := r.login("secret &=+%"); got.Class != Accepted || got.Account != "alice" || !got.Expires.IsZero() {
		t.Errorf("a right password: %+v", got)
	}
	r.want("a wrong one", r.login("secret"), Refused, "invalid_grant")
	r.want("a long one", r.login(strings.Repeat("x", 40)), Refused, "invalid_grant")
	r.want("not UTF-8", r.login("\xff"), Refused, "")
	n := r.Asked(oidctest.Token)
	r.want("a token", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	if r.Asked(oidctest.Token) != n {
		t.Error("a token was put to the provider as a password")
	}
}

// Login names with the domain, where the claim has it, too.
func TestOIDCPasswordGrantByAddress(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) { o.PasswordGrant, o.UsernameDomain = true, true })
	r.Users = map[string]string{"carol@dom.example": "secret"}
	q := Query{Op: auth.OpAuth, User: "carol", Domain: "dom.example", Logins: []string{"{user}", "{user}@{domain}"}, Secret: auth.NewSecret("secret")}
	if got := r.Ask(context.Background(), q); got.Class != Accepted || got.Account != "carol" || got.Attempts != 1 {
		t.Errorf("by its address: %+v", got)
	}
	q.Secret = auth.NewSecret("wrong")
	if got := r.Ask(context.Background(), q); got.Class != Refused || got.Attempts != 2 {
		t.Errorf("two wrong names: %+v", got)
	}
	q.Domain = "other.example"
	q.Logins, q.Secret = []string{"{user}@dom.example"}, auth.NewSecret("secret")
	r.want("an account of another domain", r.Ask(context.Background(), q), Refused, "another domain")
}

// What the provider has granted counts, not what was asked for.
func TestOIDCPasswordGrantScope(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) { o.PasswordGrant, o.Scopes = true, []string{"mail"} })
	r.Users = map[string]string{"alice": "pw"}
	for scope, class := range map[any]Class{nil: Accepted, "openid mail": Accepted, "openid": Refused, "openid mailbox": Refused, "": Refused} {
		r.Lock()
		r.Granted = scope
		r.Unlock()
		r.want(fmt.Sprintf("granted %v", scope), r.login("pw"), class, "")
	}
}

// A token of another issuer is none of this provider's business.
func TestOIDCIntrospectionForeign(t *testing.T) {
	for name, change := range map[string]func(*OIDCOptions){
		"alone":         func(o *OIDCOptions) { o.JWT, o.Introspection = false, true },
		"with jwt":      func(o *OIDCOptions) { o.Introspection = true },
		"with password": func(o *OIDCOptions) { o.JWT, o.Introspection, o.PasswordGrant = false, true, true },
	} {
		r := newOIDCRig(t, change)
		foreign := oidctest.RSA(t, "a").Sign(t, r.Claims(r.now(), map[string]any{"iss": "https://other.example"}))
		if got := r.login(foreign); got.Class != Refused || !got.Absent || r.Asked(oidctest.Introspec)+r.Asked(oidctest.Token) != 0 {
			t.Errorf("%s: %+v; sent to the provider", name, got)
		}
	}
}

// A text with the dots of a JWT, but nothing in it, may be an opaque token or a password.
func TestOIDCNoJWT(t *testing.T) {
	const text = "eyJ.my.own-password-of-more-than-32-letters"
	r := newOIDCRig(t, func(o *OIDCOptions) { o.Introspection, o.PasswordGrant = true, true })
	r.Users = map[string]string{"alice": text}
	r.want("a password", r.login(text), Accepted, "")
	r.Active = map[string]map[string]any{text: r.active(nil)}
	if got := r.login(text); got.Class != Accepted || got.Expires.IsZero() {
		t.Errorf("an opaque token: %+v", got)
	}
}

// A password that is long enough to be a token is put to both, and passes if one accepts it.
func TestOIDCIntrospectionAndGrant(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) { o.Introspection, o.PasswordGrant = true, true })
	long := strings.Repeat("secret", 8)
	r.Users = map[string]string{"alice": long}
	r.want("a long password", r.login(long), Accepted, "")
	r.Active = map[string]map[string]any{opaque: r.active(nil)}
	r.want("a token", r.login(opaque), Accepted, "")
	r.Fail(oidctest.Introspec, 503)
	r.want("a long password in an outage", r.login(long), Outage, "503")
}

// What is not the provider's word about the secret is never a no.
func TestOIDCServerFaults(t *testing.T) {
	const html, ok = "<html>", 200
	for _, c := range []struct {
		name   string
		path   string
		status int
		body   string
		class  Class
		reason string
	}{
		{"down", oidctest.Introspec, 503, html, Outage, "503"},
		{"a page", oidctest.Introspec, ok, html, Outage, "HTML"},
		{"no active", oidctest.Introspec, ok, `{}`, Outage, "neither true nor false"},
		{"active as a text", oidctest.Introspec, ok, `{"active":"false"}`, Outage, "neither true nor false"},
		{"Active", oidctest.Introspec, ok, `{"Active":false}`, Outage, "neither true nor false"},
		{"our secret is wrong", oidctest.Introspec, 401, `{"error":"invalid_client"}`, Misconfigured, "client_secret"},
		{"our secret is wrong, without JSON", oidctest.Introspec, 401, html, Misconfigured, "client_secret"},
		{"panva and a JWT", oidctest.Introspec, 400, `{"error":"unsupported_token_type"}`, Unsure, "add jwt"},
		{"invalid_grant is for tokens", oidctest.Introspec, 400, `{"error":"invalid_grant"}`, Outage, "400"},
		{"limits", oidctest.Introspec, 429, html, Throttled, "429"},
		{"gone", oidctest.Introspec, 404, html, Misconfigured, "404"},
		{"elsewhere", oidctest.Introspec, 302, html, Outage, "redirect"},

		{"down", oidctest.Token, 503, html, Outage, "503"},
		{"a login page", oidctest.Token, ok, html, Outage, "HTML"},
		{"no token", oidctest.Token, ok, `{}`, Misconfigured, "openid"},
		{"no ID token", oidctest.Token, ok, `{"access_token":"x"}`, Misconfigured, "openid"},
		{"an ID token of another issuer", oidctest.Token, ok, `{"id_token":"eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0."}`, Misconfigured, "another issuer"},
		{"our secret is wrong", oidctest.Token, 401, `{"error":"invalid_client"}`, Misconfigured, "client_secret"},
		{"no direct access grants", oidctest.Token, 400, `{"error":"unauthorized_client"}`, Misconfigured, "direct access grants"},
		{"no password grant", oidctest.Token, 400, `{"error":"unsupported_grant_type"}`, Misconfigured, "password grant"},
		{"no scope", oidctest.Token, 400, `{"error":"invalid_scope"}`, Misconfigured, "scope"},
		{"invalid_request", oidctest.Token, 400, `{"error":"invalid_request"}`, Outage, "400"},
		{"a firewall", oidctest.Token, 403, html, Outage, "403"},
		{"invalid_grant with 500", oidctest.Token, 500, `{"error":"invalid_grant"}`, Outage, "500"},
		{"invalid_grant with 200", oidctest.Token, ok, `{"error":"invalid_grant"}`, Misconfigured, "openid"},
		{"invalid_grant", oidctest.Token, 400, `{"error":"invalid_grant"}`, Refused, "invalid_grant"},
		{"limits", oidctest.Token, 429, `{"error":"invalid_grant"}`, Throttled, "429"},
	} {
		r := newOIDCRig(t, func(o *OIDCOptions) {
			o.Introspection, o.PasswordGrant = c.path == oidctest.Introspec, c.path == oidctest.Token
		})
		r.Set(c.path, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		})
		r.want(c.path+" "+c.name, r.login(opaque), c.class, c.reason)
	}
	r := newOIDCRig(t, func(o *OIDCOptions) { o.Introspection, o.PasswordGrant = true, true })
	r.Set(oidctest.Discovery, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer":"` + r.URL + `"}`))
	})
	r.want("no introspection endpoint", r.login(opaque), Misconfigured, "introspection_endpoint")
	r.want("no token endpoint", r.login("hunter2"), Misconfigured, "token_endpoint")
}
