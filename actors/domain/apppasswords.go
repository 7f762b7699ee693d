package domain

import (
	"slices"
	"time"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/config"
)

// AppPasswords is what the configuration says of a domain's app passwords.
type AppPasswords struct {
	Key *apppassword.Key
	// TTL is how long one lives where no backend can be asked about its account.
	TTL time.Duration
	// Alone: the domain has no other backend, so that its accounts are those with app passwords.
	Alone bool

	required bool     // for all services
	services []string // for which they are required
}

func newAppPasswords(cfg *config.Domain) *AppPasswords {
	c := cfg.AppPasswords
	if c == nil {
		return nil
	}
	return &AppPasswords{
		Key: apppassword.NewKey(c.Key), TTL: c.UnconfirmedTTL, Alone: cfg.AppPasswordsAlone(),
		required: c.RequireAll, services: c.Require,
	}
}

// Requires reports whether the accounts' own passwords are refused for a service.
func (a *AppPasswords) Requires(service string) bool {
	return a.required || slices.Contains(a.services, service)
}

// AppAccount is the account of a user's app passwords: where letter case counts at a backend, each
// spelling has its own.
func (d *Domain) AppAccount(user string) string {
	if d.Folds {
		return auth.FoldUser(user)
	}
	return user
}
