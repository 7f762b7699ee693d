package migrate

import (
	"fmt"
	"testing"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/xcauth"
)

// TestWrittenConfigurationsParse: whatever xcauth's options and rows contain, the configuration's
// parser reads the same from the text that is made of them.
func TestWrittenConfigurationsParse(t *testing.T) {
	for _, secret := range []string{"plain", `q"uote\`, "${env(\"HOME\")}", "%{ if x }", "$${", "ä€\u200b", "tab\there", " blanks ", "\x7f\x01"} {
		o := xcauth.Defaults()
		o.URL, o.Secret, o.Ejabberdctl = "https://cloud.example/x?a=${b}", auth.NewSecret(secret), "/opt/e j/ctl"
		o.QueryTTL = 0
		var data xcauth.Data
		for i, name := range []string{"a.example", "b.example", "ü.example", "c.example"} {
			data.AddRow(xcauth.TableDomains, []xcauth.Text{{Value: name, Valid: true}, {Value: fmt.Sprint(secret, i), Valid: true},
				{Value: "https://cloud.example/" + name, Valid: true}, {Value: "auth.example", Valid: true}, {}, {}, {}})
		}
		w := xcauth.Writer{DataDir: "/tmp/x y", Listen: true, LogFile: "/tmp/l", Banner: "a\nb",
			Secret: func(_ string, s auth.Secret) string { return config.Quote(s.Reveal()) }}
		cfg, problems := config.Parse("/x.hcl", []byte(w.Config(&o, data.Domains)), config.Env{})
		if problems.Failed() {
			t.Fatalf("%q: %v", secret, problems.Err())
		}
		if len(cfg.Backends) != 5 || len(cfg.Domains) != 5 || len(cfg.Listeners) != 5 || cfg.DataDir != "/tmp/x y" {
			t.Errorf("%q: %d backends, %d domains", secret, len(cfg.Backends), len(cfg.Domains))
		}
		if got := cfg.Backends[0].Secret.Reveal(); got != secret {
			t.Errorf("%q became %q", secret, got)
		}
		for _, d := range data.Domains {
			found := cfg.DomainFor(d.Name)
			if found == nil || found.Name != d.Name || found.AuthDomains[0] != "auth.example" || found.Roster == nil || found.Cache.QueryTTL != 0 {
				t.Errorf("%s: %+v", d.Name, found)
				continue
			}
			for _, b := range cfg.Backends {
				if b.BackendRef == found.Backends[0] && (b.URL != d.URL || b.Secret.Reveal() != d.Secret.Reveal()) {
					t.Errorf("%s has the server %s", d.Name, b.URL)
				}
			}
		}
	}
}
