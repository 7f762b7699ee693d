package config

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern/internal/protocol"
)

func readExample(*testing.T) []byte { return []byte(FullExample()) }

// As shipped, the example is a configuration for a machine of which nothing is known: without files,
// servers and domains.
func TestExampleAsShipped(t *testing.T) {
	src := []byte(Example)
	cfg, problems := Parse("/etc/postern/config.hcl", src, Env{})
	if cfg == nil || len(problems) > 0 {
		t.Fatalf("%s", render(problems))
	}
	if len(cfg.Listeners)+len(cfg.Backends)+len(cfg.Domains) > 0 || cfg.Metrics != "" || cfg.Log.File != "" {
		t.Errorf("the example decides something: %+v", cfg)
	}
	if attrs, _ := sites(t, src); len(attrs) < 20 {
		t.Errorf("only %d settings need no decision", len(attrs))
	}
}

// parseExample parses the store block apart from the rest, of which some does not go with it.
func parseExample(t *testing.T, src []byte) (*Config, Problems) {
	begin := bytes.Index(src, []byte("\nstore \"valkey\" {"))
	if begin < 0 {
		return Parse("/etc/postern/config.hcl", src, testEnv(t))
	}
	end := begin + bytes.Index(src[begin:], []byte("\n}\n")) + 3
	lines := func(text []byte) []byte { return bytes.Repeat([]byte("\n"), bytes.Count(text, []byte("\n"))) }
	cfg, problems := Parse("/etc/postern/config.hcl", slices.Concat(src[:begin], lines(src[begin:end]), src[end:]), testEnv(t))
	alone, more := Parse("/etc/postern/config.hcl", slices.Concat(lines(src[:begin]), src[begin:end],
		[]byte("backend \"users\" \"local\" {}\ndomain \"*\" { backends = [backend.users.local] }\n")), testEnv(t))
	for _, p := range more {
		if p.Severity == Error {
			problems = append(problems, p)
		}
	}
	if cfg == nil || alone == nil {
		return nil, problems
	}
	cfg.Store = alone.Store
	return cfg, problems
}

func TestExampleParses(t *testing.T) {
	cfg, problems := parseExample(t, readExample(t))
	if cfg == nil {
		t.Fatalf("config.hcl.example does not parse:\n%s", render(problems))
	}
	for _, p := range problems {
		t.Errorf("config.hcl.example gives a warning: %s", p)
	}
	if len(cfg.Listeners) != len(protocol.Table)+1 || len(cfg.Backends) != 8 || len(cfg.Domains) != 4 {
		t.Errorf("config.hcl.example has %d listeners, %d backends, %d domains",
			len(cfg.Listeners), len(cfg.Backends), len(cfg.Domains))
	}
}

// site is one attribute of the example.
type site struct {
	path, name string
	attr       *hclsyntax.Attribute
}

// sites lists the attributes of the example and the paths of its blocks.
func sites(t *testing.T, src []byte) (attrs []site, paths []string) {
	t.Helper()
	file, diags := hclsyntax.ParseConfig(mask(src), "example", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var walk func(path string, body *hclsyntax.Body)
	walk = func(path string, body *hclsyntax.Body) {
		paths = append(paths, path)
		for name, attr := range body.Attributes {
			attrs = append(attrs, site{path, name, attr})
		}
		for _, b := range body.Blocks {
			child := strings.TrimPrefix(path+" "+b.Type, " ")
			if findSpec(child) == nil {
				child += " " + b.Labels[0]
			}
			walk(child, b.Body)
		}
	}
	walk("", file.Body.(*hclsyntax.Body))
	slices.SortFunc(attrs, func(a, b site) int { return a.attr.SrcRange.Start.Byte - b.attr.SrcRange.Start.Byte })
	return attrs, paths
}

// TestExampleIsComplete holds the example against the schema, both ways.
func TestExampleIsComplete(t *testing.T) {
	attrs, paths := sites(t, readExample(t))
	for i := range specs {
		sp := &specs[i]
		if !slices.Contains(paths, sp.path) {
			t.Errorf("block %q of the schema is missing from config.hcl.example", sp.path)
		}
		for _, name := range slices.Concat(sp.attrs, sp.secrets) {
			if !slices.ContainsFunc(attrs, func(s site) bool { return s.path == sp.path && s.name == name }) {
				t.Errorf("attribute %q of block %q is missing from config.hcl.example", name, sp.path)
			}
		}
	}
	for _, s := range attrs {
		if sp := findSpec(s.path); sp == nil || !sp.knows(s.name) {
			t.Errorf("%q of block %q in config.hcl.example is not in the schema", s.name, s.path)
		}
	}
}

// without returns src with a range replaced.
func without(src []byte, r hcl.Range, by string) []byte {
	return slices.Concat(src[:r.Start.Byte], []byte(by), src[r.End.Byte:])
}

// TestEveryAttributeIsRead puts a value of no type in the place of each attribute of
// the example: an attribute that is not decoded would give no error.
func TestEveryAttributeIsRead(t *testing.T) {
	src := readExample(t)
	attrs, _ := sites(t, src)
	for _, s := range attrs {
		broken := without(src, s.attr.Expr.Range(), "{ not = true }")
		cfg, problems := parseExample(t, broken)
		line := s.attr.SrcRange.Start.Line
		found := slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error && p.Line == line })
		if cfg != nil || !found {
			t.Errorf("line %d: %s.%s takes an object without an error at its line", line, s.path, s.name)
		}
	}
}

// exampleOnly are the attributes with a value in the example that is not the default, or
// that have none; the example says so in words.
var exampleOnly = []string{
	"listen address", "listen default_domain", "listen owner", "listen group", "listen recipient_delimiter",
	"listen fixed_domain", "listen userdb uid", "listen userdb gid", "listen userdb home",
	"listen secret", "listen realm", "listen nginx_mail imap", "listen nginx_mail pop3", "listen nginx_mail smtp",
	"listen tls certificate", "listen tls key", "listen tls client_ca",
	"backend nextcloud url", "backend nextcloud ca_file", "backend nextcloud user_agent", "backend nextcloud proxy",
	"backend nextcloud admin_user", "backend nextcloud admin_password",
	"backend jsxc url", "backend jsxc secret", "backend jsxc ca_file", "backend jsxc user_agent", "backend jsxc proxy",
	"backend json url", "backend json ca_file", "backend json user_agent", "backend json proxy",
	"backend nextcloud authority", "backend jsxc authority", "backend json authority", "backend users authority", "backend app_passwords key",
	"backend oidc issuer", "backend oidc audience", "backend oidc clients", "backend oidc client_id", "backend oidc client_secret", "backend oidc username_claim",
	"backend oidc groups_claim", "backend oidc scim url", "backend oidc scim token", "backend oidc scim scope",
	"backend oidc required_scope", "backend oidc algorithms", "backend oidc authority", "backend oidc ca_file", "backend oidc user_agent", "backend oidc proxy",
	"registry proxy",
	"backend http url", "backend http ca_file", "backend http user_agent", "backend http proxy", "backend http realm", "backend http deny_body",
	"backend http true_at", "backend http authority", "backend auth_http url", "backend auth_http ca_file", "backend auth_http user_agent",
	"backend auth_http proxy", "backend auth_http service_user", "backend auth_http service_password", "backend auth_http authority",
	"domain backends", "domain allow groups", "domain allow services", "domain auth_domain", "domain local", "domain cache key", "registry cache key", "domain token totp seed", "domain token totp secrets", "log file", "audit file", "audit syslog", "metrics address",
	"store valkey addresses", "store valkey username", "store valkey password",
	"store valkey tls ca_file", "store valkey tls certificate", "store valkey tls key", "store valkey tls server_name",
	"store valkey sentinel master", "store valkey sentinel username", "store valkey sentinel password",
	"web url", "web tls certificate", "web tls key", "web tls client_ca", "web status address", "web status owner", "web status group", "web status url",
	"web status default_domain", "web status accounts", "web status groups", "web status token", "web self_service address", "web self_service owner",
	"web self_service group", "web self_service url", "web self_service default_domain", "web self_service imap",
	"domain roster ejabberd api", "domain roster ejabberd token", "domain roster ejabberd ejabberdctl",
	"domain roster ejabberd include", "domain roster ejabberd exclude", "domain roster ejabberd foreign",
	"domain roster prosody groups_file", "domain roster prosody include", "domain roster prosody exclude", "domain roster prosody foreign",
}

// TestExampleShowsDefaults deletes each attribute in turn: the Config must stay the
// same, or the attribute must be known to have no default.
func TestExampleShowsDefaults(t *testing.T) {
	src := readExample(t)
	parse := func(src []byte) *Config {
		cfg, _ := parseExample(t, src)
		if cfg != nil {
			for i := range cfg.Listeners {
				cfg.Listeners[i].ChangesSaid = true // the line silences a note besides
			}
		}
		return cfg
	}
	want := parse(src)
	attrs, _ := sites(t, src)
	for _, s := range attrs {
		got := parse(without(src, s.attr.SrcRange, ""))
		same := got != nil && reflect.DeepEqual(got, want)
		key := fmt.Sprintf("%s %s", s.path, s.name)
		listed := slices.Contains(exampleOnly, key)
		if same == listed && key != "listen protocol" { // its default is the label, which is a protocol or not
			t.Errorf("line %d: %s: value equals the default: %v; in exampleOnly: %v",
				s.attr.SrcRange.Start.Line, key, same, listed)
		}
	}
}
