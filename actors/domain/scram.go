package domain

import (
	"cmp"
	"fmt"
	"slices"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/scram"
)

// Scram is what the configuration says of a domain's logins by SCRAM.
type Scram struct {
	Seed *scram.Seed
	// Hidden: a backend has passwords of which postern has no keys. They are asked for no proof, and must be
	// refused by a rule wherever SCRAM is offered.
	Hidden bool

	authDomain string // of the accounts, in canonical form; empty: the login's own
}

func newScram(cfg *config.Domain) (*Scram, error) {
	if cfg.ScramSeed == "" {
		return nil, nil
	}
	seed, err := backend.OpenSeed(cfg.ScramSeed)
	if err != nil {
		return nil, err
	}
	s := &Scram{Seed: seed, Hidden: slices.ContainsFunc(cfg.Backends, func(ref config.BackendRef) bool {
		return ref.Kind != config.KindUsers && ref.Kind != config.KindAppPasswords
	})}
	if len(cfg.AuthDomains) > 0 {
		s.authDomain, err = auth.FoldDomain(cfg.AuthDomains[0])
	}
	if err != nil {
		return nil, fmt.Errorf("auth_domain: %w", err)
	}
	return s, nil
}

// Domain is the name under which the accounts of a domain, in canonical form, have their salts and keys.
func (s *Scram) Domain(name string) string { return cmp.Or(s.authDomain, name) }

// Salt is the salt of an account, whether it exists or not.
func (s *Scram) Salt(id auth.Identity) scram.Salt {
	return s.Seed.Salt(auth.Identity{User: id.User, Domain: s.Domain(id.Domain)})
}

// Own reports whether accounts may log in for a service with a password that is no app password.
func (d *Domain) Own(service string) bool {
	return d.AppPasswords == nil || !d.AppPasswords.Alone && !d.AppPasswords.Requires(service)
}
