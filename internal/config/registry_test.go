package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

// TestRegistered: a registered domain has the blocks that the file would have for it.
func TestRegistered(t *testing.T) {
	const cache = "cache {\n storage = \"memory\"\n hot_entries = 7\n }\n"
	for kind, more := range map[string]string{
		KindJSXC:      "url = \"https://c.example/\"\n secret = env(\"TOKEN_SECRET\")",
		KindJSON:      `url = "https://c.example/"`,
		KindNextcloud: `url = "https://c.example/"`,
		KindUsers:     "",
	} {
		for _, authDomain := range []string{"", "cloud.example"} {
			name := ""
			if authDomain != "" {
				name = "auth_domain = \"" + authDomain + "\"\n"
			}
			cfg, _ := parse(t, "registry {\n"+cache+"}\nbackend \""+kind+"\" \"own\" {\n"+more+"\n}\n"+
				"domain \"a.example\" {\nbackends = [backend."+kind+".own]\n"+name+cache+"}\n")
			url, secret := "https://c.example/", auth.Secret{}
			if kind == KindUsers {
				url = ""
			}
			if kind == KindJSXC {
				secret = auth.NewSecret(canary)
			}
			if cfg.Registry.Proxy = auth.NewSecret("environment"); url != "" {
				cfg.Backends[0].Proxy = cfg.Registry.Proxy
			}
			b, d := cfg.Registered("a.example", kind, url, secret, authDomain)
			ref := BackendRef{kind, "a.example"}
			cfg.Backends[0].BackendRef, cfg.Domains[0].Backends[0] = ref, ref
			if !reflect.DeepEqual(b, cfg.Backends[0]) || !reflect.DeepEqual(d, cfg.Domains[0]) {
				t.Errorf("%s: got %+v %+v, want %+v %+v", kind, b, d, cfg.Backends[0], cfg.Domains[0])
			}
		}
	}
	if b, _ := new(Config).Registered("a.example", "ldap", "", auth.Secret{}, ""); b.Kind != "ldap" {
		t.Errorf("unknown kind: %+v", b)
	}
}

// TestRegistryAlone: with a registry no domain need stand in the file.
func TestRegistryAlone(t *testing.T) {
	cfg, problems := parse(t, "listen \"mail\" {\n protocol = \"tcp_table\"\n address = \"127.0.0.1:0\"\n"+
		"default_domain = \"a.example\"\n}\nregistry {\n idle = \"90s\"\n max_live = 5\n proxy = \"http://proxy.example:3128\"\n}\n")
	if len(problems) > 0 {
		t.Errorf("warned: %s", render(problems))
	}
	if r := cfg.Registry; !r.Declared || r.Idle != 90*time.Second || r.MaxLive != 5 || r.Proxy.Reveal() != "http://proxy.example:3128" || r.Cache.Storage != StorageDisk {
		t.Errorf("%+v", r)
	}
	for src, want := range map[string]string{
		"registry {}\nregistry {}\n":            "there are two registry blocks",
		"registry {\n idle = \"10ms\"\n}\n":     "idle",
		"registry {\n max_live = 0\n}\n":        "max_live",
		"registry {\n proxy = \"ftp://x\"\n}\n": "proxy is not the URL",
		"registry {\n cahce { }\n}\n":           "did you mean cache",
		"registry \"x\" {}\n":                   "label",
		"registry {\n cache {\n x = 1\n}\n}\n":  "unknown attribute x",
	} {
		if _, problems := Parse("/etc/postern/test.hcl", []byte(src), testEnv(t)); !problems.Failed() || !strings.Contains(render(problems), want) {
			t.Errorf("%q: %s", src, render(problems))
		}
	}
}
