package config

import (
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern/internal/auth"
)

// AppPasswords is what the configuration says of the app passwords of a domain.
type AppPasswords struct {
	Backend BackendRef
	Key     auth.Secret // of KeySize bytes
	// UnconfirmedTTL is how long one lives where no backend can be asked about its account.
	UnconfirmedTTL time.Duration
	// RequireAll: the accounts' own passwords are accepted nowhere; Require: not for these services, as
	// auth.FoldService has them, sorted.
	RequireAll bool
	Require    []string
}

// appPasswordBackend decodes the attributes of a backend app_passwords.
func (p *parser) appPasswordBackend(s *section, cfg *Config, out *Backend) {
	out.Key = p.key(s, cfg.DataDir)
	s.need("key", "backend app_passwords needs a key that is not beside the store",
		`add key = file("path") or credential("NAME"), and make the file with: openssl rand -hex 32`)
	out.UnconfirmedTTL = s.duration("unconfirmed_ttl", 90*day, time.Minute)
}

// appPasswords takes the backend app_passwords out of the backends of a domain, since those that are left
// are asked in turn. Alone, it stays in the list as well.
func (p *parser) appPasswords(s *section, cfg *Config, out *Domain) {
	for i, ref := range out.Backends {
		if ref.Kind != KindAppPasswords {
			continue
		}
		at := s.at("backends")
		switch {
		case out.AppPasswords != nil:
			p.complain(at, "the domain has two backends app_passwords", "remove one: an account has its app passwords in one place")
			continue
		case i > 0:
			p.complain(at, "backend."+ref.String()+" does not stand first", "move it to the beginning: app passwords are never sent to other backends")
		}
		b := &cfg.Backends[p.blocks[ref]]
		out.AppPasswords = &AppPasswords{Backend: ref, Key: b.Key, UnconfirmedTTL: b.UnconfirmedTTL}
	}
	if others := slices.DeleteFunc(slices.Clone(out.Backends), func(r BackendRef) bool { return r.Kind == KindAppPasswords }); len(others) > 0 {
		out.Backends = others
	}
	p.requireAppPassword(s, out)
}

// requireAppPassword decodes require_app_password: true, false or a list of services.
func (p *parser) requireAppPassword(s *section, out *Domain) {
	attr := s.body.Attributes["require_app_password"]
	if attr == nil {
		return
	}
	all, services := false, []string(nil)
	if _, list := attr.Expr.(*hclsyntax.TupleConsExpr); list {
		s.texts("require_app_password", func(v value, _ hcl.Range) {
			if service := auth.FoldService(v.AsString()); !slices.Contains(services, service) {
				services = append(services, service)
			}
		})
		slices.Sort(services)
	} else {
		all = s.flag("require_app_password", false)
	}
	switch {
	case !all && len(services) == 0:
	case out.AppPasswords == nil:
		p.complain(s.at("require_app_password"), "the domain has no app passwords, so that these logins would all be refused",
			`add backend "app_passwords" "devices" { key = file("path") }, and put it first into backends`)
	default:
		out.AppPasswords.RequireAll, out.AppPasswords.Require = all, services
	}
}

// AppPasswordsAlone reports whether the domain has no backend but that of its app passwords.
func (d *Domain) AppPasswordsAlone() bool {
	return len(d.Backends) == 1 && d.Backends[0].Kind == KindAppPasswords
}
