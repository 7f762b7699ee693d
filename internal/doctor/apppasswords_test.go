package doctor

import (
	"context"
	"errors"
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
	idp := config.Backend{BackendRef: config.BackendRef{Kind: config.KindOIDC, Name: "idp"}}
	scim := idp
	scim.OIDC.SCIMURL = "https://id.example.org/scim"
	for name, c := range map[string]struct {
		behind config.Backend
		want   Status
		says   string
	}{
		"users file":                       {local, OK, "end with their accounts"},
		"nextcloud with a service account": {served, OK, "end with their accounts"},
		"nextcloud without":                {cloud, Warning, "no backend can be asked whether accounts of dom.example"},
		"a provider":                       {idp, Warning, "no backend can be asked"},
		"a provider with scim":             {scim, OK, "end with their accounts"},
		"alone, so that there is no other": {devices, Warning, "no backend can be asked"},
	} {
		cfg := &config.Config{Backends: []config.Backend{devices, c.behind}, Domains: []config.Domain{{
			Name: "dom.example", Backends: []config.BackendRef{c.behind.BackendRef}, AppPasswords: &config.AppPasswords{Backend: devices.BackendRef},
		}}}
		chain := (&Env{}).backends(&config.Config{Backends: cfg.Backends[:1], Domains: cfg.Domains}, &Subject{})[0]
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

// TestKeylessApps: app passwords that keep SCRAM from being offered are counted by domain, where the daemon says so.
func TestKeylessApps(t *testing.T) {
	devices := config.Backend{BackendRef: config.BackendRef{Kind: config.KindAppPasswords, Name: "devices"}}
	others := config.Backend{BackendRef: config.BackendRef{Kind: config.KindAppPasswords, Name: "others"}}
	domain := func(name, seed string, of config.Backend) config.Domain {
		return config.Domain{Name: name, ScramSeed: seed, AppPasswords: &config.AppPasswords{Backend: of.BackendRef}}
	}
	cfg := &config.Config{Domains: []config.Domain{
		domain("one.example", "seed", devices), domain("two.example", "seed", devices), domain("off.example", "", devices),
		domain("other.example", "seed", others), {Name: "none.example", ScramSeed: "seed"},
	}}
	for name, c := range map[string]struct {
		known Subject
		want  []Outcome // by status and a part of the text
	}{
		"all have keys": {Subject{Keyless: map[string]int{"one.example": 0, "two.example": 0}},
			[]Outcome{{OK, "all app passwords of one.example", ""}, {OK, "two.example", ""}}},
		"some are missing": {Subject{Keyless: map[string]int{"one.example": 1, "two.example": 3}},
			[]Outcome{{Warning, "1 app password of one.example", "postern password list USER@one.example"}, {Warning, "3 app passwords of two.example", "by PLAIN"}}},
		"not loaded":  {Subject{Keyless: map[string]int{"one.example": 0}}, []Outcome{{OK, "one.example", ""}, {Skipped, "not all domains", ""}}},
		"no daemon":   {Subject{}, []Outcome{{Skipped, "by the daemon alone", "while the daemon runs"}}},
		"a fault":     {Subject{KeylessErr: errors.New("no store")}, []Outcome{{Skipped, "no store", "log"}}},
		"a fault yet": {Subject{KeylessErr: errors.New("no store"), Keyless: map[string]int{}}, []Outcome{{Skipped, "no store", "log"}}},
	} {
		got := keylessApps(cfg, devices, &c.known)
		if len(got) != len(c.want) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		for i, want := range c.want {
			if got[i].Status != want.Status || !strings.Contains(got[i].Text, want.Text) || !strings.Contains(got[i].Cure, want.Cure) {
				t.Errorf("%s: %+v, want %+v", name, got[i], want)
			}
		}
	}
}

// TestAppPasswordKeys: app passwords under another key are a failure of their logins.
func TestAppPasswordKeys(t *testing.T) {
	devices := config.Backend{BackendRef: config.BackendRef{Kind: config.KindAppPasswords, Name: "devices"}}
	count := func(n AppPasswords) *Info {
		return &Info{Store: true, AppPasswords: map[string]AppPasswords{"app_passwords.devices": n, "app_passwords.other": {Alive: 9, OtherKey: 9}}}
	}
	for name, c := range map[string]struct {
		info       *Info
		want       Status
		says, cure string
	}{
		"good":       {count(AppPasswords{Alive: 3}), OK, "3 app passwords", ""},
		"none":       {&Info{Store: true}, OK, "0 app passwords", ""},
		"two of 3":   {count(AppPasswords{Alive: 3, OtherKey: 2}), Failure, "3 app passwords in the store, of which 2 under another key", "restore the former key"},
		"unreadable": {count(AppPasswords{Alive: 3, OtherKey: 2, Unreadable: 1}), Failure, "1 record", "revoke"},
		"no daemon":  {nil, Skipped, "not counted", ""},
		"no store":   {&Info{}, Skipped, "not counted", ""},
	} {
		got := appKeys(devices, &Daemon{Info: c.info})
		if len(got) != 1 || got[0].Status != c.want || !strings.Contains(got[0].Text, c.says) || !strings.Contains(got[0].Cure, c.cure) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
