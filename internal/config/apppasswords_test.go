package config

import (
	"slices"
	"testing"
	"time"
)

const (
	devices = "backend \"app_passwords\" \"devices\" {\nkey = file(\"cache.key\")\n}\n"
	both    = "backends = [backend.app_passwords.devices, backend.users.local]\n"
)

// TestAppPasswords: the backend is taken out of the list of those that are asked in turn, unless it is
// the only one.
func TestAppPasswords(t *testing.T) {
	for name, c := range map[string]struct {
		lines    string
		backends int
		alone    bool
		all      bool
		services []string
	}{
		"first":       {both, 1, false, false, nil},
		"alone":       {"backends = [backend.app_passwords.devices]\n", 1, true, false, nil},
		"for all":     {both + "require_app_password = true\n", 1, false, true, nil},
		"for none":    {both + "require_app_password = false\n", 1, false, false, nil},
		"for some":    {both + "require_app_password = [\"SMTP\", \"managesieve\", \"submission\"]\n", 1, false, false, []string{"sieve", "smtp"}},
		"none at all": {okRefs + "require_app_password = false\n", 1, false, false, nil},
	} {
		more := devices
		if name == "none at all" {
			more = ""
		}
		cfg, problems := parse(t, more+domain(c.lines))
		if cfg == nil {
			t.Errorf("%s:\n%s", name, render(problems))
			continue
		}
		d := cfg.Domains[0]
		if len(d.Backends) != c.backends || d.AppPasswordsAlone() != c.alone || (d.AppPasswords == nil) != (more == "") {
			t.Errorf("%s: %+v", name, d)
		}
		a := d.AppPasswords
		if a == nil {
			continue
		}
		if a.Key.Reveal() != rawCacheKey || a.UnconfirmedTTL != 90*24*time.Hour || !cfg.NeedsStore() {
			t.Errorf("%s: %+v, store %t", name, a, cfg.NeedsStore())
		}
		if a.RequireAll != c.all || !slices.Equal(a.Require, c.services) {
			t.Errorf("%s: required for all: %t, for %q", name, a.RequireAll, a.Require)
		}
	}
}

func TestComplaintsAboutAppPasswords(t *testing.T) {
	of := func(lines string) string {
		return "backend \"app_passwords\" \"devices\" {\n" + lines + "\n}\n" + domain(both)
	}
	runComplaints(t, []complaint{
		{"no key", of(""), Error, 1, "needs a key", "openssl rand -hex 32"},
		{"short key", of("key = env(\"SHORT_KEY\")"), Error, 2, "not one of 32 bytes", "openssl rand -hex 32"},
		{"key in data_dir", of("key = file(\"/var/lib/postern/cache.key\")"), Error, 2, "in data_dir", "move it"},
		{"key linked to data_dir", of("key = file(\"linked.key\")"), Error, 2, "in data_dir", "move it"},
		{"lifetime", of("key = file(\"cache.key\")\nunconfirmed_ttl = \"1s\""), Error, 3, "too short", ""},
		{"not first", devices + domain("backends = [backend.users.local, backend.app_passwords.devices]"), Error, 6, "does not stand first", "beginning"},
		{"two", devices + "backend \"app_passwords\" \"more\" {\nkey = file(\"cache.key\")\n}\n" +
			domain("backends = [backend.app_passwords.devices, backend.app_passwords.more]"), Error, 9, "two backends app_passwords", "remove one"},
		{"required without", domain(okRefs + "require_app_password = true"), Error, 4, "has no app passwords", "put it first"},
		{"required with a number", devices + domain(both+"require_app_password = 1"), Error, 7, "must be a bool", ""},
		{"required for nothing", devices + domain(both+"require_app_password = []"), Error, 7, "empty list", ""},
	})
}
