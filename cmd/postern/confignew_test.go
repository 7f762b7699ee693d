package main

import (
	"strings"
	"testing"

	"postern/internal/config"
)

// The first commands run as users that the machine has, and where the configuration is read.
func TestFirstCommands(t *testing.T) {
	for name, c := range map[string]struct {
		file           string
		service, force bool
		want           string
	}{
		"with the package": {config.DefaultPath, true, false,
			"sudo postern config check; sudo systemctl enable --now postern; sudo -u postern postern user add alice@a.example; sudo -u postern postern test auth alice@a.example"},
		"once more": {config.DefaultPath, true, true,
			"sudo postern config check; sudo systemctl enable --now postern && sudo systemctl reload-or-restart postern; sudo -u postern postern user add alice@a.example; sudo -u postern postern test auth alice@a.example"},
		"without the service's user": {config.DefaultPath, false, true,
			"sudo postern config check; sudo postern serve; sudo postern user add alice@a.example; sudo postern test auth alice@a.example"},
		"elsewhere": {"/srv/my files/x.hcl", true, true,
			"postern config check --config '/srv/my files/x.hcl'; postern serve --config '/srv/my files/x.hcl'; " +
				"postern user add alice@a.example --config '/srv/my files/x.hcl'; postern test auth alice@a.example --config '/srv/my files/x.hcl'"},
	} {
		var o newOptions
		o.File, o.Logins, o.Domains, o.force = c.file, config.KindUsers, []string{"a.example"}, c.force
		if got := strings.Join(firstCommands(&o, c.service), "; "); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}
