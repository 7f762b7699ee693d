package config

import (
	"time"

	"postern/internal/auth"
)

// registeredUsers is the default of hot_entries for registered domains, of which there may be
// many.
const registeredUsers = 1000

// registry decodes the registry block, or returns the defaults, and the limit block of the file.
func (p *parser) registry(root *section, cfg *Config) Registry {
	s := p.only(root, "registry")
	return Registry{
		Declared: !s.absent,
		Idle:     s.duration("idle", 15*time.Minute, time.Second),
		MaxLive:  s.number("max_live", 10000, 1, 1_000_000),
		Proxy:    p.proxy(s),
		Cache:    p.cache(s, cfg, registeredUsers),
		Limit:    p.limit(p.only(root, "limit"), defaultLimit()),
	}
}

// Registered returns the blocks of a registered domain: a backend with the defaults of its kind and the
// proxy of the registry, and a domain with the cache of the registry. The secret of a jsxc backend also signs tokens, as
// in the file. An empty authDomain means the name of the domain.
func (c *Config) Registered(name, kind, url string, secret auth.Secret, authDomain string) (Backend, Domain) {
	p := &parser{} // its problems are dropped: url and secret are missing here and set below
	s := p.none("backend " + kind)
	if s.spec == nil {
		return Backend{BackendRef: BackendRef{kind, name}}, Domain{Name: name}
	}
	s.labels = []string{kind, "registered"}
	b := p.backend(s, &Config{DataDir: c.DataDir})
	b.Name, b.URL, b.Secret = name, url, secret
	if url != "" {
		b.Proxy = c.Registry.Proxy
	}
	d := Domain{Name: name, Backends: []BackendRef{b.BackendRef}, Login: []string{"{user}"}, Cache: c.Registry.Cache, Limit: c.Registry.Limit}
	if authDomain != "" {
		d.AuthDomains = []string{authDomain}
	}
	if kind == KindJSXC {
		d.JSXC = &JSXCToken{Secrets: []auth.Secret{secret}, TTL: time.Hour}
	}
	return b, d
}
