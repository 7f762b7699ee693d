package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"postern/internal/auth"
)

func TestStore(t *testing.T) {
	const domain = "backend \"users\" \"local\" {}\ndomain \"dom.example\" {\n  backends = [backend.users.local]\n}\n"
	cfg, problems := Parse("/etc/postern/config.hcl", []byte(domain+"store \"valkey\" {\n  addresses = \"127.0.0.1:6379\"\n  username = \"u\"\n"+
		"  password = env(\"TOKEN_SECRET\")\n  prefix = \"x:\"\n  isolated = \"refuse\"\n}\n"), testEnv(t))
	if cfg == nil || len(problems) > 0 {
		t.Fatal(render(problems))
	}
	if want := (Store{Kind: StoreValkey, Addresses: []string{"127.0.0.1:6379"}, Username: "u", Password: auth.NewSecret(canary), Prefix: "x:", Refuse: true}); !reflect.DeepEqual(cfg.Store, want) {
		t.Errorf("%+v", cfg.Store)
	}
	if !cfg.NeedsStore() {
		t.Error("the store is not opened")
	}
	plain, _ := Parse("/etc/postern/config.hcl", []byte(domain), testEnv(t))
	if !Diff(plain, cfg).Store || Diff(plain, cfg).Empty() || !reflect.DeepEqual(plain.Store, Store{}) {
		t.Errorf("the difference: %+v", Diff(plain, cfg))
	}

	const store = "store \"valkey\" { addresses = \"unix:/run/valkey.sock\" }\n"
	in := func(more string) string { return strings.Replace(domain, "local]\n", "local]\n"+more, 1) }
	for name, c := range map[string]struct{ text, want string }{
		"roster":     {in("  roster \"ejabberd\" { api = \"http://127.0.0.1:5281/api\" }\n") + store, "shared rosters"},
		"memory":     {in("  cache { storage = \"memory\" }\n") + store, "remembers passwords in memory only"},
		"no address": {domain + "store \"valkey\" {}\n", "no address"},
		"no port":    {domain + "store \"valkey\" { addresses = \"localhost\" }\n", "neither host:port"},
		"no path":    {domain + "store \"valkey\" { addresses = \"unix:run/valkey\" }\n", "not absolute"},
		"prefix":     {domain + "store \"valkey\" {\n  addresses = \"[::1]:6379\"\n  prefix = \"a b\"\n}\n", "prefix"},
		"kind":       {domain + "store \"etcd\" {}\n", "etcd"},
		"two":        {domain + store + store, "two store blocks"},
		"former":     {domain + "store \"valkey\" { address = \"127.0.0.1:1\" }\n", "did you mean addresses?"},
		"several":    {domain + "store \"valkey\" { addresses = [\"a:1\", \"b:1\"] }\n", "several addresses"},
		"twice":      {domain + "store \"valkey\" {\n  addresses = [\"a:1\", \"a:1\"]\n  cluster = true\n}\n", "twice"},
		"both":       {domain + "store \"valkey\" {\n  addresses = [\"a:1\", \"b:1\", \"c:1\"]\n  cluster = true\n  sentinel { master = \"m\" }\n}\n", "no Sentinels"},
		"no master":  {domain + "store \"valkey\" {\n  addresses = [\"a:1\", \"b:1\", \"c:1\"]\n  sentinel {}\n}\n", "master"},
		"no tag":     {domain + "store \"valkey\" {\n  addresses = [\"a:1\", \"b:1\", \"c:1\"]\n  cluster = true\n  prefix = \"{}x\"\n}\n", "no hash tag"},
		"no CA":      {domain + "store \"valkey\" {\n  addresses = \"a:1\"\n  tls { ca_file = \"cache.key\" }\n}\n", "holds no certificate"},
		"alone":      {domain + "store \"valkey\" {\n  addresses = \"a:1\"\n  tls { key = \"tls.key\" }\n}\n", "stand alone"},
	} {
		cfg, problems := Parse("/etc/postern/config.hcl", []byte(c.text), testEnv(t))
		if cfg != nil || !strings.Contains(render(problems), c.want) {
			t.Errorf("%s: valid: %t, %s", name, cfg != nil, render(problems))
		}
	}
	if cfg, problems := Parse("/etc/postern/config.hcl", []byte(domain+store+"registry {}\n"), testEnv(t)); cfg == nil || !cfg.Registry.Declared {
		t.Errorf("registered domains: %s", render(problems))
	}
	for address, noted := range map[string]bool{"10.0.0.5:6379": true, "store.example.org:6379": true, "127.0.0.1:6379": false, "unix:/run/valkey.sock": false} {
		cfg, problems := Parse("/etc/postern/config.hcl", fmt.Appendf(nil, "%sstore \"valkey\" { addresses = %q }\n", domain, address), testEnv(t))
		if cfg == nil || strings.Contains(strings.Join(cfg.Notes(), "\n"), "in clear text") != noted {
			t.Errorf("%s: %s", address, render(problems))
		}
	}
	parse := func(block string) *Config {
		t.Helper()
		cfg, problems := Parse("/etc/postern/config.hcl", []byte(domain+"store \"valkey\" {\n  addresses = [\"a:1\", \"b:1\", \"c:1\"]\n"+block+"}\n"), testEnv(t))
		if cfg == nil || len(problems) > 0 {
			t.Fatal(render(problems))
		}
		return cfg
	}
	if s := parse("  cluster = true\n").Store; !s.Cluster || s.Prefix != "{postern}:" || s.TLS.Config() != nil || len(s.Addresses) != 3 {
		t.Errorf("a cluster: %+v", s)
	}
	guarded := parse("  sentinel {\n    master = \"m\"\n    username = \"w\"\n  }\n  tls {\n    certificate = \"tls.pem\"\n    key = \"tls.key\"\n    server_name = \"n\"\n  }\n")
	if s := guarded.Store; s.Sentinel != (Sentinel{Master: "m", Username: "w"}) || s.Prefix != "postern:" {
		t.Errorf("Sentinels: %+v", s)
	}
	if c := guarded.Store.TLS.Config(); c == nil || c.ServerName != "n" || len(c.Certificates) != 1 || c.RootCAs != nil {
		t.Errorf("TLS: %+v", c)
	}
	if notes := strings.Join(guarded.Notes(), "\n"); strings.Contains(notes, "in clear text") {
		t.Errorf("by TLS: %s", notes)
	}
	few, problems := Parse("/etc/postern/config.hcl", []byte(domain+"store \"valkey\" {\n  addresses = [\"a:1\", \"b:1\"]\n  cluster = true\n}\n"), testEnv(t))
	if few == nil || !strings.Contains(render(problems), "fewer than three") {
		t.Errorf("two nodes: %s", render(problems))
	}
}
