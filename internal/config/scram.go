package config

import (
	"path/filepath"
	"slices"
)

// scramSeed is the file with the seed of SCRAM, in the data directory.
const scramSeed = "scram.seed"

// scram decodes scram = true. A domain must have nothing but secrets of postern's own: another one cannot be
// proved, and clients do not fall back from SCRAM to PLAIN.
func (p *parser) scram(s *section, cfg *Config, out *Domain) {
	if !s.flag("scram", false) {
		return
	}
	at := s.at("scram")
	for _, ref := range out.Backends {
		if ref.Kind != KindUsers && ref.Kind != KindAppPasswords && !out.AppPasswords.requires("xmpp") {
			p.complain(at, "backend."+ref.String()+" has passwords that postern does not know, so that SCRAM could never be offered",
				`remove the line, or let users log in with app passwords alone: require_app_password = ["xmpp"]`)
			return
		}
	}
	switch {
	case out.JSXC != nil || out.TOTP != nil:
		p.complain(at, "the domain has time-limited tokens, which clients send as passwords: SCRAM could never be offered", "remove the line, or the tokens")
	case len(out.AuthDomains) > 1:
		p.complain(at, "the accounts of a domain with scram must be those of one auth_domain", "keep one auth_domain, or remove the line")
	default:
		out.ScramSeed = filepath.Join(cfg.DataDir, scramSeed)
		for _, ref := range out.Backends {
			if i, ok := p.blocks[ref]; ok && ref.Kind == KindUsers {
				cfg.Backends[i].ScramSeed = out.ScramSeed
			}
		}
	}
}

// requires reports whether the accounts' own passwords are refused for a service.
func (a *AppPasswords) requires(service string) bool {
	return a != nil && (a.RequireAll || slices.Contains(a.Require, service))
}
