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
	cfg, problems := Parse("/etc/postern/config.hcl", []byte(domain+"store \"valkey\" {\n  address = \"127.0.0.1:6379\"\n  username = \"u\"\n"+
		"  password = env(\"TOKEN_SECRET\")\n  prefix = \"x:\"\n  isolated = \"refuse\"\n}\n"), testEnv(t))
	if cfg == nil || len(problems) > 0 {
		t.Fatal(render(problems))
	}
	if want := (Store{StoreValkey, "127.0.0.1:6379", "u", auth.NewSecret(canary), "x:", true}); !reflect.DeepEqual(cfg.Store, want) {
		t.Errorf("%+v", cfg.Store)
	}
	if !cfg.NeedsStore() {
		t.Error("the store is not opened")
	}
	plain, _ := Parse("/etc/postern/config.hcl", []byte(domain), testEnv(t))
	if !Diff(plain, cfg).Store || Diff(plain, cfg).Empty() || !reflect.DeepEqual(plain.Store, Store{}) {
		t.Errorf("the difference: %+v", Diff(plain, cfg))
	}

	const store = "store \"valkey\" { address = \"unix:/run/valkey.sock\" }\n"
	in := func(more string) string { return strings.Replace(domain, "local]\n", "local]\n"+more, 1) }
	for name, c := range map[string]struct{ text, want string }{
		"registry":      {domain + store + "registry {}\n", "registered domains cannot be in a shared store"},
		"roster":        {in("  roster \"ejabberd\" { api = \"http://127.0.0.1:5281/api\" }\n") + store, "shared rosters"},
		"app passwords": {strings.Replace(in(""), "local]", "app_passwords.own, backend.users.local]", 1) + store + "backend \"app_passwords\" \"own\" { key = file(\"cache.key\") }\n", "app_passwords"},
		"memory":        {in("  cache { storage = \"memory\" }\n") + store, "remembers passwords in memory only"},
		"no address":    {domain + "store \"valkey\" {}\n", "no address"},
		"no port":       {domain + "store \"valkey\" { address = \"localhost\" }\n", "neither host:port"},
		"no path":       {domain + "store \"valkey\" { address = \"unix:run/valkey\" }\n", "not absolute"},
		"prefix":        {domain + "store \"valkey\" {\n  address = \"[::1]:6379\"\n  prefix = \"a b\"\n}\n", "prefix"},
		"kind":          {domain + "store \"etcd\" {}\n", "etcd"},
		"two":           {domain + store + store, "two store blocks"},
	} {
		cfg, problems := Parse("/etc/postern/config.hcl", []byte(c.text), testEnv(t))
		if cfg != nil || !strings.Contains(render(problems), c.want) {
			t.Errorf("%s: valid: %t, %s", name, cfg != nil, render(problems))
		}
	}
	for address, noted := range map[string]bool{"10.0.0.5:6379": true, "store.example.org:6379": true, "127.0.0.1:6379": false, "unix:/run/valkey.sock": false} {
		cfg, problems := Parse("/etc/postern/config.hcl", fmt.Appendf(nil, "%sstore \"valkey\" { address = %q }\n", domain, address), testEnv(t))
		if cfg == nil || strings.Contains(strings.Join(cfg.Notes(), "\n"), "in clear text") != noted {
			t.Errorf("%s: %s", address, render(problems))
		}
	}
}
