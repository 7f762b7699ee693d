package config

import "testing"

const idpBlock = "backend \"oidc\" \"c\" {\nissuer = \"https://id.example.org\"\naudience = \"postern\"\nclient_id = \"x\"\n"

func idpOf(t *testing.T, lines string) *Backend {
	t.Helper()
	cfg, problems := parse(t, idpBlock+lines+"}\ndomain \"x.example\" { backends = [backend.oidc.c] }\n")
	if cfg == nil || len(problems) > 0 {
		t.Fatalf("%s: %v", lines, problems)
	}
	return &cfg.Backends[0]
}

// What a narrower rule keeps out is not remembered by a wider one: the backend is another one for the cache.
func TestAuthorityOfOIDC(t *testing.T) {
	const claim = "username_claim = \"upn\"\n"
	was := idpOf(t, claim).Authority("")
	for name, c := range map[string]struct {
		lines string
		same  bool
	}{
		"nothing":     {claim, true},
		"slots":       {claim + "slots = 7\nleeway = \"1m\"\ntimeout = \"3s\"\n", true},
		"claim":       {"username_claim = \"sub\"\nfold_case = true\n", false},
		"domain":      {claim + "username_domain = true\n", false},
		"clients":     {claim + "clients = [\"a\"]\n", false},
		"scopes":      {claim + "required_scope = [\"a\"]\n", false},
		"algorithms":  {claim + "algorithms = [\"ES256\"]\n", false},
		"accept":      {claim + "accept = [\"password_grant\"]\n", false},
		"accept more": {claim + "accept = [\"jwt\", \"password_grant\"]\n", false},
	} {
		if same := idpOf(t, c.lines).Authority("") == was; same != c.same {
			t.Errorf("%s: the same authority: %v", name, same)
		}
	}
	b := idpOf(t, claim)
	b.OIDC.Audience = "other"
	if b.Authority("") == was {
		t.Error("another audience is the same authority")
	}
	one, other := idpOf(t, claim+"clients = [\"a\", \"b\"]\n"), idpOf(t, claim+"clients = [\"b\", \"a\"]\n")
	if one.Authority("") != other.Authority("") {
		t.Error("another order is another authority")
	}
	one, other = idpOf(t, claim+"authority = \"x\"\n"), idpOf(t, claim+"authority = \"x\"\nclients = [\"a\"]\n")
	if one.Authority("") == other.Authority("") {
		t.Error("with a name of its own, clients are overlooked")
	}
}

// Defaults that go by the claim.
func TestOIDCClaims(t *testing.T) {
	for lines, want := range map[string]struct{ fold, domain bool }{
		"username_claim = \"sub\"\n":                                        {false, false},
		"username_claim = \"sub\"\nfold_case = true\n":                      {true, false},
		"username_claim = \"preferred_username\"\n":                         {true, false},
		"username_claim = \"preferred_username\"\nusername_domain = true\n": {true, true},
		"username_claim = \"email\"\n":                                      {true, true},
		"username_claim = \"email\"\nfold_case = false\n":                   {false, true},
	} {
		if b := idpOf(t, lines); b.FoldCase != want.fold || b.OIDC.UsernameDomain != want.domain {
			t.Errorf("%s: fold_case %v, username_domain %v", lines, b.FoldCase, b.OIDC.UsernameDomain)
		}
	}
}

// A dovecot listener offers the mechanisms of tokens where a domain takes them, and names the issuer if there is one.
func TestBearerOfListener(t *testing.T) {
	idp := func(name, lines string) string {
		return "backend \"oidc\" \"" + name + "\" {\nissuer = \"https://" + name + ".example.org/\"\naudience = \"postern\"\nusername_claim = \"upn\"\n" + lines + "}\n"
	}
	const listen, users = "listen \"dovecot\" { address = \"127.0.0.1:1\" }\nlisten \"ejabberd\" { address = \"127.0.0.1:2\" }\n", "backend \"users\" \"u\" {}\n"
	at := func(name string) string { return "https://" + name + ".example.org/.well-known/openid-configuration" }
	for name, c := range map[string]struct {
		text string
		want Bearer
	}{
		"no provider":         {users + "domain \"*\" { backends = [backend.users.u] }\n", Bearer{}},
		"one":                 {users + idp("a", "") + "domain \"x.example\" { backends = [backend.users.u, backend.oidc.a] }\n", Bearer{true, at("a"), ""}},
		"scopes":              {idp("a", "required_scope = [\"mail\", \"xmpp\"]\n") + "domain \"*\" { backends = [backend.oidc.a] }\n", Bearer{true, at("a"), "mail xmpp"}},
		"passwords alone":     {idp("a", "client_id = \"x\"\naccept = \"password_grant\"\n") + "domain \"*\" { backends = [backend.oidc.a] }\n", Bearer{}},
		"opaque tokens":       {idp("a", "client_id = \"x\"\naccept = \"introspection\"\n") + "domain \"*\" { backends = [backend.oidc.a] }\n", Bearer{true, at("a"), ""}},
		"one, of two domains": {idp("a", "") + "domain \"x.example\" { backends = [backend.oidc.a] }\ndomain \"y.example\" { backends = [backend.oidc.a] }\n", Bearer{true, at("a"), ""}},
		"two":                 {idp("a", "") + idp("b", "") + "domain \"x.example\" { backends = [backend.oidc.a] }\ndomain \"y.example\" { backends = [backend.oidc.b] }\n", Bearer{Offered: true}},
	} {
		cfg, problems := parse(t, listen+c.text)
		if cfg == nil {
			t.Fatalf("%s: %v", name, problems)
		}
		if got := cfg.Listeners[0].Bearer; got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if got := cfg.Listeners[1].Bearer; got != (Bearer{}) {
			t.Errorf("%s: the ejabberd listener has %+v", name, got)
		}
		if l, _ := cfg.DefaultListener("dovecot"); l.Bearer != c.want {
			t.Errorf("%s: a listener without a block has %+v", name, l.Bearer)
		}
	}
}
