package admin

import (
	"testing"

	"postern/internal/auth"
	"postern/internal/config"
)

// TestKeepsPasswords: app passwords stay where any domain may lead to the account that is removed.
func TestKeepsPasswords(t *testing.T) {
	apps := new(config.AppPasswords)
	for _, c := range []struct {
		domain config.Domain
		want   bool
	}{
		{config.Domain{Name: "*", AuthDomains: []string{"Users.example"}, AppPasswords: apps}, true},
		{config.Domain{Name: "*", AuthDomains: []string{"users.example"}}, false},
		{config.Domain{Name: "*", AuthDomains: []string{"other.example"}, AppPasswords: apps}, false},
		{config.Domain{Name: "*", AppPasswords: apps}, false},
		{config.Domain{Name: "dom.example", AuthDomains: []string{"users.example"}, AppPasswords: apps}, false},
	} {
		cfg := &config.Config{Domains: []config.Domain{c.domain}}
		if got := KeepsPasswords(cfg, auth.Identity{User: "joe", Domain: "users.example"}); got != c.want {
			t.Errorf("%+v: %t, want %t", c.domain, got, c.want)
		}
	}
}
