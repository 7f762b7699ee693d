package doctor

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern/internal/config"
)

// TestAppPasswords: a domain whose accounts cannot be asked about is named.
func TestAppPasswords(t *testing.T) {
	devices := config.Backend{BackendRef: config.BackendRef{Kind: config.KindAppPasswords, Name: "devices"}, UnconfirmedTTL: 90 * 24 * time.Hour}
	cloud := config.Backend{BackendRef: config.BackendRef{Kind: config.KindNextcloud, Name: "cloud"}}
	served, local := cloud, config.Backend{BackendRef: config.BackendRef{Kind: config.KindUsers, Name: "local"}}
	served.AdminUser = "postern"
	for name, c := range map[string]struct {
		behind config.Backend
		want   Status
		says   string
	}{
		"users file":                       {local, OK, "end with their accounts"},
		"nextcloud with a service account": {served, OK, "end with their accounts"},
		"nextcloud without":                {cloud, Warning, "no backend can be asked whether accounts of dom.example"},
		"alone, so that there is no other": {devices, Warning, "no backend can be asked"},
	} {
		cfg := &config.Config{Backends: []config.Backend{devices, c.behind}, Domains: []config.Domain{{
			Name: "dom.example", Backends: []config.BackendRef{c.behind.BackendRef}, AppPasswords: &config.AppPasswords{Backend: devices.BackendRef},
		}}}
		chain := (&Env{}).backends(&config.Config{Backends: cfg.Backends[:1], Domains: cfg.Domains}, KnownUser{})[0]
		if chain.Hop != "backend.app_passwords.devices" {
			t.Fatalf("%s: %+v", name, chain)
		}
		got := appPasswords(cfg, devices)
		if len(got) != 1 || got[0].Status != c.want || !strings.Contains(got[0].Text, c.says) || (c.want == OK) != (got[0].Cure == "") {
			t.Errorf("%s: %+v", name, got)
		}
		_ = chain.Steps[0].Run(context.Background())
	}
}
