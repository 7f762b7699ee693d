package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"postern/internal/allow"
)

// TestAllow: the blocks are read in their order, and services are folded.
func TestAllow(t *testing.T) {
	cfg, problems := parse(t, domain(okRefs+`allow {
  groups = ["mail", "the staff"]
  services = ["IMAP", "submission", "smtp"]
}
allow { groups = "chat" }
`))
	if cfg == nil || len(problems) > 0 {
		t.Fatal(render(problems))
	}
	want := []allow.Block{{Groups: []string{"mail", "the staff"}, Services: []string{"imap", "smtp"}}, {Groups: []string{"chat"}}}
	if got := cfg.Domains[0].Allow; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestComplaintsAboutAllow(t *testing.T) {
	const block = "allow { groups = [\"mail\"] }\n"
	on := func(backends, lines string) string {
		return usersBlock + "backend \"json\" \"app\" { " + strings.TrimSpace(okURL) + " }\nbackend \"nextcloud\" \"c\" { " + strings.TrimSpace(okURL) + " }\n" +
			devices + "domain \"x.example\" {\nbackends = [" + backends + "]\n" + lines + "}\n"
	}
	many := make([]string, maxGroups+1)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprint("group", i))
	}
	at := strings.Count(on("", ""), "\n")
	runComplaints(t, []complaint{
		{"no groups", on("backend.users.local", "allow { services = [\"imap\"] }\n"), Error, at, "names no group", "add groups"},
		{"empty list", on("backend.users.local", "allow { groups = [] }\n"), Error, at, "empty list", ""},
		{"twice", on("backend.users.local", "allow { groups = [\"mail\", \"mail\"] }\n"), Error, at, "listed twice", "remove one"},
		{"a line break", on("backend.users.local", "allow { groups = [\"a\\nb\"] }\n"), Error, at, "line break", ""},
		{"a long name", on("backend.users.local", "allow { groups = [\""+strings.Repeat("x", 129)+"\"] }\n"), Error, at, "too long", "128"},
		{"many groups", on("backend.users.local", "allow { groups = ["+strings.Join(many, ", ")+"] }\n"), Error, at, "too many groups", "32"},
		{"many blocks", on("backend.users.local", strings.Repeat(block, maxAllow+1)), Error, at + maxAllow, "too many allow blocks", "16"},
		{"none knows", on("backend.json.app", block), Error, at, "no backend of the domain says in which groups", "nextcloud and users"},
		{"app passwords alone", on("backend.app_passwords.devices", block), Error, at, "no backend of the domain says in which groups", ""},
		{"one does not", on("backend.users.local, backend.json.app", block), Warning, at, "accounts of backend.json.app will be temporary failures", ""},
		{"app passwords without a service account", on("backend.app_passwords.devices, backend.nextcloud.c", block), Warning, at, "app passwords or tokens", "service account"},
	})
	idp := func(more string) string {
		return "backend \"oidc\" \"idp\" {\nissuer = \"https://id.example.org\"\naudience = \"x\"\nusername_claim = \"sub\"\n" + more + "}\n" +
			devices + "domain \"y.example\" {\nbackends = [backend.app_passwords.devices, backend.oidc.idp]\n" + block + "}\n"
	}
	scim := "scim {\nurl = \"https://id.example.org/scim\"\ntoken = env(\"TOKEN_SECRET\")\n}\n"
	runComplaints(t, []complaint{
		{"a provider without a claim", idp(""), Error, 11, "no backend of the domain says", "groups_claim"},
		{"a provider that cannot be asked", idp("groups_claim = \"groups\"\n"), Warning, 12, "app passwords or tokens", "scim"},
		{"scim without a token", idp("groups_claim = \"groups\"\nscim { url = \"https://id.example.org/scim\" }\n"), Error, 6, "no token", "client_id"},
		{"a scope with a space", idp("client_id = \"p\"\nscim {\nurl = \"https://id.example.org/scim\"\nscope = [\"a b\"]\n}\n"), Error, 8, "scope holds a space", "each scope"},
		{"scim without a url", idp("groups_claim = \"groups\"\nscim { token = env(\"TOKEN_SECRET\") }\n"), Error, 6, "no url", "/Users"},
		{"scim with a query", idp("scim {\nurl = \"https://id.example.org/?x\"\ntoken = env(\"TOKEN_SECRET\")\n}\n"), Error, 6, "query", ""},
	})
	if cfg, problems := parse(t, idp("groups_claim = \"groups\"\n"+scim)); cfg == nil || len(problems) > 0 || cfg.Backends[0].OIDC.SCIMToken.Empty() {
		t.Errorf("a provider that can be asked:\n%s", render(problems))
	}
	asClient := "client_id = \"p\"\nclient_secret = env(\"TOKEN_SECRET\")\nscim {\nurl = \"https://id.example.org/scim\"\nscope = \"users\"\n}\n"
	if cfg, problems := parse(t, idp("groups_claim = \"groups\"\n"+asClient)); cfg == nil || len(problems) > 0 || !slices.Equal(cfg.Backends[0].OIDC.SCIMScopes, []string{"users"}) {
		t.Errorf("a provider that is asked with tokens that postern gets:\n%s", render(problems))
	}
	for _, quiet := range []string{"backend.users.local", "backend.app_passwords.devices, backend.users.local", "backend.nextcloud.c"} {
		if cfg, problems := parse(t, on(quiet, block)); cfg == nil || strings.Contains(render(problems), "groups") {
			t.Errorf("%s:\n%s", quiet, render(problems))
		}
	}
}
