package config

import (
	"time"

	"postern/internal/auth"
)

// registeredUsers are the users that a registered domain may hold in memory by default: there
// may be many such domains.
const registeredUsers = 1000

// registry decodes the registry block, or gives its defaults, and the limit block of the file.
func (p *parser) registry(root *section) Registry {
	s := p.only(root, "registry")
	out := Registry{Declared: s != nil}
	if s == nil {
		s = p.none("registry")
	}
	out.Idle = s.duration("idle", 15*time.Minute, time.Second)
	out.MaxLive = int(s.number("max_live", 10000, 1, 1_000_000))
	out.Cache = p.cache(s, registeredUsers)
	out.Limit = p.limit(p.only(root, "limit"), defaultLimit())
	return out
}

// Registered makes the blocks of a registered domain: a backend of its own at the defaults of
// its kind, and the registry's cache. A jsxc backend's secret also signs tokens, as in the
// file. An empty authDomain means the domain's own name.
func (c *Config) Registered(name, kind, url string, secret auth.Secret, authDomain string) (Backend, Domain) {
	p := &parser{} // what it complains about, that url and secret are missing, is filled in below
	s := p.none("backend " + kind)
	if s.spec == nil {
		return Backend{BackendRef: BackendRef{kind, name}}, Domain{Name: name}
	}
	s.labels = []string{kind, "registered"}
	b := p.backend(s, &Config{DataDir: c.DataDir})
	b.Name, b.URL, b.Secret = name, url, secret
	d := Domain{Name: name, Backends: []BackendRef{b.BackendRef}, Login: []string{"{user}"}, Cache: c.Registry.Cache, Limit: c.Registry.Limit}
	if authDomain != "" {
		d.AuthDomains = []string{authDomain}
	}
	if kind == KindJSXC {
		d.JSXC = &JSXCToken{Secrets: []auth.Secret{secret}, TTL: time.Hour}
	}
	return b, d
}
