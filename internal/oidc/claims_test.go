package oidc

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

var at = time.Unix(1_800_000_000, 0)

func rules() Rules {
	return Rules{
		Issuer: "https://id.example.org", Audience: "postern", Clients: []string{"webmail"}, Scopes: []string{"mail"},
		Claim: "preferred_username", Leeway: 30 * time.Second, Fold: true,
	}
}

// claims are those of a good token, with changes; nil removes a claim.
func claims(t *testing.T, changes map[string]any) Claims {
	t.Helper()
	c := map[string]any{
		"iss": "https://id.example.org", "aud": "postern", "azp": "webmail", "scope": "openid mail", "preferred_username": "alice",
		"iat": at.Unix(), "exp": at.Add(time.Minute).Unix(),
	}
	for name, v := range changes {
		if c[name] = v; v == nil {
			delete(c, name)
		}
	}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ParseClaims(data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type m = map[string]any

func TestSigned(t *testing.T) {
	unix := func(d time.Duration) int64 { return at.Add(d).Unix() }
	for _, c := range []struct {
		name    string
		typ     string
		changes m
		change  func(*Rules)
		kind    Kind
		want    string // of the reason; empty: the token is good
	}{
		{name: "good", typ: "at+jwt"},
		{name: "media type", typ: "application/AT+JWT"},
		{name: "Keycloak", typ: "JWT", changes: m{"typ": "Bearer", "acr": "1", "sid": "x"}},
		{name: "by its scope", typ: "JWT"},
		{name: "Okta", changes: m{"scope": nil, "scp": []string{"mail"}, "azp": nil, "cid": "webmail"}},
		{name: "Zitadel", typ: "JWT", changes: m{"scope": nil, "azp": nil, "client_id": "webmail", "jti": "x", "nbf": at.Unix()}, change: func(r *Rules) { r.Scopes = nil }},
		{name: "audiences", typ: "at+jwt", changes: m{"aud": []string{"account", "postern"}}},
		{name: "client_id", typ: "at+jwt", changes: m{"azp": nil, "client_id": "webmail"}},
		{name: "letter case", typ: "at+jwt", changes: m{"preferred_username": "Alice"}},
		{name: "domain", typ: "at+jwt", changes: m{"preferred_username": "alice@Example.ORG"}, change: withDomain},
		{name: "e-mail", typ: "at+jwt", changes: m{"email": "alice@example.org", "email_verified": true}, change: func(r *Rules) { r.Claim, r.Domain = "email", true }},
		{name: "e-mail as Cognito", typ: "at+jwt", changes: m{"email": "alice@example.org", "email_verified": "true"}, change: func(r *Rules) { r.Claim, r.Domain = "email", true }},
		{name: "within the leeway", typ: "at+jwt", changes: m{"exp": unix(-29 * time.Second), "nbf": unix(30 * time.Second)}},

		{name: "another issuer", typ: "at+jwt", changes: m{"iss": "https://id.example.org/"}, kind: Foreign, want: "another issuer"},
		{name: "no issuer", typ: "at+jwt", changes: m{"iss": nil}, kind: Foreign, want: "another issuer"},
		{name: "ID token of Keycloak", typ: "JWT", changes: m{"typ": "ID"}, kind: Denied, want: "no access token"},
		{name: "refresh token", typ: "JWT", changes: m{"typ": "Refresh"}, kind: Denied, want: "no access token"},
		{name: "ID token with a type", typ: "at+jwt", changes: m{"typ": "ID"}, kind: Denied, want: "no access token"},
		{name: "logout token", typ: "logout+jwt", kind: Denied, want: "no access token"},
		{name: "logout token with Bearer", typ: "logout+jwt", changes: m{"typ": "Bearer"}, kind: Denied, want: "no access token"},
		{name: "ID token", typ: "JWT", changes: m{"scope": nil}, kind: Denied, want: "does not show"},
		{name: "ID token of Zitadel", typ: "JWT", changes: m{"scope": nil, "client_id": "webmail", "amr": []string{"pwd"}, "jti": "x", "auth_time": 1}, kind: Denied, want: "does not show"},
		{name: "ID token of Okta", typ: "", changes: m{"scope": nil, "azp": nil, "jti": "x", "amr": []string{"pwd"}}, kind: Denied, want: "does not show"},
		{name: "ID token with hash", typ: "JWT", changes: m{"at_hash": "x"}, kind: Denied, want: "is an ID token"},
		{name: "no audience", typ: "at+jwt", changes: m{"aud": nil}, kind: Denied, want: "no audience"},
		{name: "null audience", typ: "at+jwt", changes: m{"aud": []any{nil}}, kind: Denied, want: "another audience"},
		{name: "another audience", typ: "at+jwt", changes: m{"aud": []string{"account", "postern2"}}, kind: Denied, want: "another audience"},
		{name: "another client", typ: "at+jwt", changes: m{"azp": "shop"}, kind: Denied, want: "another client"},
		{name: "another client, by azp", typ: "at+jwt", changes: m{"azp": "shop", "client_id": "webmail"}, kind: Denied, want: "another client"},
		{name: "no client", typ: "at+jwt", changes: m{"azp": nil}, kind: Denied, want: "another client"},
		{name: "bound to a key", typ: "at+jwt", changes: m{"cnf": m{"jkt": "x"}}, kind: Denied, want: "bound to a key"},
		{name: "expired", typ: "at+jwt", changes: m{"exp": unix(-30 * time.Second)}, kind: Denied, want: "expired, 30s ago"},
		{name: "no end", typ: "at+jwt", changes: m{"exp": nil}, kind: Denied, want: "when it ends"},
		{name: "null end", typ: "at+jwt", changes: m{"exp": json.RawMessage("null")}, kind: Denied, want: "exp is not a time"},
		{name: "end as text", typ: "at+jwt", changes: m{"exp": "1800000060"}, kind: Denied, want: "exp is not a time"},
		{name: "endless", typ: "at+jwt", changes: m{"exp": 1e300}, kind: Denied, want: "exp is not a time"},
		{name: "not yet", typ: "at+jwt", changes: m{"nbf": unix(31 * time.Second)}, kind: NotYet, want: "in 31s only (nbf)"},
		{name: "of the future", typ: "at+jwt", changes: m{"iat": unix(time.Hour)}, kind: NotYet, want: "(iat)"},
		{name: "no scope", typ: "at+jwt", changes: m{"scope": "openid mail2"}, kind: Denied, want: "scope mail"},
		{name: "another account", typ: "at+jwt", changes: m{"preferred_username": "bob"}, kind: Denied, want: "another account"},
		{name: "letter case counts", typ: "at+jwt", changes: m{"preferred_username": "Alice"}, change: func(r *Rules) { r.Fold = false }, kind: Denied, want: "another account"},
		{name: "another domain", typ: "at+jwt", changes: m{"preferred_username": "alice@example.com"}, change: withDomain, kind: Elsewhere, want: "another domain"},
		{name: "with a domain where it is the user alone", typ: "at+jwt", changes: m{"preferred_username": "alice@example.org"}, kind: Denied, want: "set username_domain"},
		{name: "without one where it has a domain", typ: "at+jwt", change: withDomain, kind: Denied, want: "has no domain"},
		{name: "ID token with a scope", typ: "JWT", changes: m{"nonce": "n-0S6", "auth_time": 1}, kind: Denied, want: "ID token"},
		{name: "ID token with a type of its own", typ: "at+jwt", changes: m{"nonce": "n-0S6"}, kind: Denied, want: "ID token"},
		{name: "ID token that calls itself Bearer", typ: "JWT", changes: m{"nonce": "n-0S6", "typ": "Bearer"}, kind: Denied, want: "has nonce"},
		{name: "ID token with hash that calls itself Bearer", typ: "JWT", changes: m{"c_hash": "x", "typ": "Bearer"}, kind: Denied, want: "has c_hash"},
		{name: "ID token with hash and type", typ: "at+jwt", changes: m{"s_hash": "x"}, kind: Denied, want: "has s_hash"},
		{name: "no domain after @", typ: "at+jwt", changes: m{"preferred_username": "alice@"}, change: withDomain, kind: Elsewhere, want: "another domain"},
		{name: "two @", typ: "at+jwt", changes: m{"preferred_username": "alice@evil@example.org"}, change: withDomain, kind: Denied, want: "another account"},
		{name: "domain alone", typ: "at+jwt", changes: m{"preferred_username": "@example.org"}, change: withDomain, kind: Denied, want: "another account"},
		{name: "unverified e-mail", typ: "at+jwt", changes: m{"email": "alice@example.org", "email_verified": false}, change: func(r *Rules) { r.Claim, r.Domain = "email", true }, kind: Denied, want: "not verified"},
		{name: "e-mail of unknown standing", typ: "at+jwt", changes: m{"email": "alice@example.org"}, change: func(r *Rules) { r.Claim, r.Domain = "email", true }, kind: Denied, want: "not verified"},
		{name: "no name", typ: "at+jwt", changes: m{"preferred_username": nil}, kind: Incomplete, want: "no claim preferred_username"},
		{name: "a number for a name", typ: "at+jwt", changes: m{"preferred_username": 7}, kind: Incomplete, want: "no claim preferred_username"},
	} {
		r := rules()
		if c.change != nil {
			c.change(&r)
		}
		pass, fault := r.Signed(Unverified{Typ: c.typ, Claims: claims(t, c.changes)}, "alice", "example.org", at)
		switch {
		case fault == nil && c.want != "":
			t.Errorf("%s: good", c.name)
		case fault != nil && (c.want == "" || fault.Kind != c.kind || !strings.Contains(fault.Error(), c.want)):
			t.Errorf("%s: %d %v", c.name, fault.Kind, fault)
		case fault == nil && (!strings.EqualFold(pass.Account, "alice") || pass.Expires.IsZero()):
			t.Errorf("%s: %+v", c.name, pass)
		}
	}
}

// withDomain has the claim be user@domain.
func withDomain(r *Rules) { r.Domain = true }

func TestIntrospected(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes m
		kind    Kind
		want    string
	}{
		{"good", m{"token_type": "Bearer"}, 0, ""},
		{"nothing but the account", m{"exp": nil, "iat": nil, "iss": nil}, 0, ""},
		{"Kanidm", m{"token_type": "access_token"}, 0, ""},
		{"another issuer", m{"iss": "https://x.example.org"}, Foreign, "another issuer"},
		{"bound", m{"token_type": "DPoP"}, Denied, "no bearer token"},
		{"refresh token of Hydra", m{"token_use": "refresh_token"}, Denied, "no access token"},
		{"access token of Hydra", m{"token_use": "access_token"}, 0, ""},
		{"ID token", m{"token_type": "Bearer", "nonce": "x"}, Denied, "is an ID token"},
		{"refresh token of Keycloak", m{"typ": "Refresh"}, Denied, "no access token"},
		{"no audience", m{"aud": nil}, Denied, "no audience"},
		{"another client", m{"azp": nil, "client_id": "shop"}, Denied, "another client"},
		{"expired", m{"exp": at.Add(-time.Hour).Unix()}, Denied, "expired"},
		{"another account", m{"preferred_username": "bob"}, Denied, "another account"},
	} {
		r := rules()
		_, fault := r.Introspected(claims(t, c.changes), "alice", "example.org", at)
		if (fault != nil) != (c.want != "") || fault != nil && (fault.Kind != c.kind || !strings.Contains(fault.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, fault)
		}
	}
}

// Without an audience, the provider must say that it is an access token: the refresh token of a client has its name, too.
func TestIntrospectedWithoutAudience(t *testing.T) {
	r := rules()
	r.Audience = ""
	for kind, want := range map[string]string{"": "token_type", "Bearer": ""} {
		c := m{"aud": nil, "token_type": kind}
		if kind == "" {
			c["token_type"] = nil
		}
		if _, fault := r.Introspected(claims(t, c), "alice", "example.org", at); (fault == nil) != (want == "") || fault != nil && !strings.Contains(fault.Error(), want) {
			t.Errorf("token_type %q: %v", kind, fault)
		}
	}
}

// The scope in the answer to a password grant is what was granted; without it that is all (RFC 6749 section 5.1).
func TestAllowed(t *testing.T) {
	r := rules()
	for name, c := range map[string]struct {
		scope any
		good  bool
	}{"all": {"openid mail", true}, "none said": {nil, true}, "less": {"openid", false}, "nothing": {"", false}, "no text": {7, false}} {
		if err := r.Allowed(claims(t, m{"scope": c.scope})); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a stranger puts into a token is quoted, and shortened.
func TestReasonsAreSafe(t *testing.T) {
	r := rules()
	_, fault := r.Signed(Unverified{Typ: "at+jwt", Claims: claims(t, m{"aud": strings.Repeat("\n\x1b\u202e", 1000)})}, "alice", "example.org", at)
	if fault == nil || len(fault.Error()) > 600 || strings.ContainsAny(fault.Error(), "\n\x1b\u202e") {
		t.Errorf("%v", fault)
	}
}
