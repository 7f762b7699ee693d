package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"postern/internal/protocol"
)

// FuzzParse puts anything before and after a literal secret: Parse must not panic,
// and must not show the secret. Without errors there must be a Config that keeps its
// promises.
func FuzzParse(f *testing.F) {
	f.Add(FullExample(), "")
	f.Add("", base)
	f.Add(usersBlock, starBlock+"log {\nfile = <<E\n")
	f.Add("x = \"", "\"\n}")
	f.Add("x = \"${", "}\"")
	f.Add("x = \"%{", "}\"")
	f.Add("x = <<E", "E\n")
	f.Add("/*", "*/")
	f.Add("data_dir = file(", ")")
	f.Add("data_dir = {", "}")
	f.Add("data_dir = [", "]")
	f.Add("domain \"*\" {\n", "\n}\n")
	f.Add("\xef\xbb\xbf\xff", "\x00\r")
	f.Add("/*\ndomain \"a\" {}\n", "*/\ndomain \"b\" {}\n")
	env := testEnv(f)
	f.Fuzz(func(t *testing.T, before, after string) {
		block := "\nbackend \"jsxc\" \"fuzz\" {\n  url = \"https://h/\"\n  secret = \"" + canary + "\"\n}\n"
		text := []byte(before + block + after)
		cfg, problems := parseFile("/etc/postern/readable.hcl", text, env, len(text)+1)
		if parts, others := parseFile("/etc/postern/readable.hcl", text, env, 1); !reflect.DeepEqual(parts, cfg) || !slices.Equal(others, problems) {
			t.Fatalf("in pieces: %+v, %v\nas a whole: %+v, %v", parts, others, cfg, problems)
		}
		if out := render(problems); strings.Contains(out, canary) {
			t.Fatalf("the secret is shown:\n%s", out)
		}
		if (cfg == nil) != problems.Failed() {
			t.Fatalf("config: %v, failed: %v", cfg != nil, problems.Failed())
		}
		if cfg != nil {
			checkPromises(t, cfg)
		}
	})
}

// checkPromises checks what the users of a Config rely on.
func checkPromises(t *testing.T, cfg *Config) {
	t.Helper()
	for _, l := range cfg.Listeners {
		if !slices.Contains(protocol.Names(), l.Protocol) || l.Address == "" || l.Deadline <= 0 || l.MaxFrame <= 0 || l.Pipeline <= 0 ||
			l.MaxConnections <= 0 || (l.Network != "tcp" && l.Network != "unix") {
			t.Errorf("listener: %+v", l)
		}
	}
	for _, b := range cfg.Backends {
		if b.Slots <= 0 || b.Name == "" || (b.Kind == KindUsers || b.Kind == KindAppPasswords) == (b.URL != "") || (b.Kind == KindJSXC) == b.Secret.Empty() {
			t.Errorf("backend: %+v", b)
		}
	}
	if len(cfg.Domains) == 0 && !cfg.Registry.Declared {
		t.Error("no domain")
	}
	for _, d := range cfg.Domains {
		if d.Name == "" || len(d.Backends) == 0 {
			t.Errorf("domain: %+v", d)
		}
		for _, ref := range d.Backends {
			if cfg.backend(ref) == nil {
				t.Errorf("domain %q refers to %s", d.Name, ref)
			}
		}
		if d.JSXC != nil && len(d.JSXC.Secrets) == 0 || d.TOTP != nil && (d.TOTP.Seed.Empty() || len(d.TOTP.Secrets) == 0) {
			t.Errorf("domain %q has a token without secrets", d.Name)
		}
	}
}
