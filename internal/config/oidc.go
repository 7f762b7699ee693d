package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"postern/internal/auth"
	"postern/internal/oidc"
)

// What a backend oidc takes for a password.
const (
	AcceptJWT           = "jwt"            // tokens that the issuer has signed
	AcceptIntrospection = "introspection"  // opaque tokens
	AcceptPasswordGrant = "password_grant" // passwords
)

// OIDC is what a backend block says of an OpenID Connect provider.
type OIDC struct {
	Accept        []string
	Audience      string
	Clients       []string // that a token may have been issued to; empty: any
	ClientID      string
	ClientSecret  auth.Secret
	UsernameClaim string
	// UsernameDomain: the claim is user@domain; else it is the user alone.
	UsernameDomain bool
	GroupsClaim    string // the claim that lists the account's groups; empty: none does
	// SCIMURL is the base URL of the API at which accounts are looked up; empty: they cannot be.
	SCIMURL    string
	SCIMToken  auth.Secret // empty: postern gets tokens as ClientID
	SCIMScopes []string    // that it asks for then

	Scopes     []string
	Algorithms []string // empty: all that can be verified
	Leeway     time.Duration
}

// Accepts reports whether the block is one of a provider that takes such passwords.
func (b *Backend) Accepts(what string) bool { return slices.Contains(b.OIDC.Accept, what) }

// TakesTokens reports whether the block is one of a provider that takes tokens, and not only passwords.
func (b *Backend) TakesTokens() bool { return b.Accepts(AcceptJWT) || b.Accepts(AcceptIntrospection) }

// oidc decodes the attributes that only an OpenID Connect provider has.
func (p *parser) oidc(s *section, out *Backend) {
	o := &out.OIDC
	o.Accept = s.words("accept", AcceptJWT, AcceptIntrospection, AcceptPasswordGrant)
	if o.Accept == nil {
		o.Accept = []string{AcceptJWT}
	}
	o.Algorithms = s.words("algorithms", oidc.Algorithms...)
	o.Audience = s.textOr("audience", "")
	s.texts("clients", func(v value, _ hcl.Range) { o.Clients = append(o.Clients, v.AsString()) })
	o.ClientID = s.textOr("client_id", "")
	o.ClientSecret, _ = s.secret("client_secret")
	o.UsernameClaim = s.textOr("username_claim", "")
	address := o.UsernameClaim == "email"
	if o.UsernameDomain = s.flag("username_domain", address); address && !o.UsernameDomain {
		p.complain(s.at("username_domain"), "an e-mail address has a domain", "remove the line, or give another username_claim")
	}
	if o.UsernameClaim == "sub" && !s.has("fold_case") { // OpenID Connect Core 2: letter case is a part of it
		out.FoldCase = false
	}
	o.GroupsClaim = s.textOr("groups_claim", "")
	p.scim(s, o)
	s.texts("required_scope", func(v value, at hcl.Range) { o.Scopes = append(o.Scopes, p.scope("required_scope", v, at)) })
	o.Leeway = s.duration("leeway", 30*time.Second, 0)
	if o.Leeway > maxLeeway {
		p.complain(s.at("leeway"), "leeway is too long", fmt.Sprintf("give it at most %v, and have clocks set by NTP", maxLeeway))
	}
	s.need("username_claim", "backend oidc does not say which claim names the user",
		`add username_claim = "preferred_username" if users cannot change that at the provider, or "email", which counts only where it is verified`)
	p.oidcTokens(s, out)
}

// maxLeeway bounds the difference of clocks that is overlooked.
const maxLeeway = 5 * time.Minute

// oidcTokens checks that tokens of other applications do not let in, and that postern has an account where it asks.
func (p *parser) oidcTokens(s *section, out *Backend) {
	o := &out.OIDC
	jwt, introspection := out.Accepts(AcceptJWT), out.Accepts(AcceptIntrospection)
	rules := oidc.Rules{Audience: o.Audience, Clients: o.Clients}
	switch {
	case rules.Bounded(jwt, introspection):
	case jwt:
		p.complain(s.header, "backend oidc has no audience: tokens that users have for other applications would let in",
			`add audience = "NAME", and have the provider put it into aud of the tokens for your servers (Keycloak: an audience mapper)`)
	default:
		p.complain(s.header, "backend oidc has neither audience nor clients: tokens that users have for other applications would let in",
			`add audience = "NAME", or clients = ["ID"] with those whose tokens count`)
	}
	if (introspection || out.Accepts(AcceptPasswordGrant)) && o.ClientID == "" {
		p.complain(s.header, "backend oidc has no client_id, with which it would ask the provider",
			`add client_id = "postern" and client_secret = file("path") of a client that you register at the provider`)
	}
	if o.ClientID == "" && !o.ClientSecret.Empty() {
		p.complain(s.at("client_secret"), "client_secret stands without client_id", "add client_id, or remove it")
	}
}

// scim decodes the scim block.
func (p *parser) scim(parent *section, o *OIDC) {
	s := p.only(parent, "scim")
	if s.absent {
		return
	}
	s.need("url", "the scim block has no url", `add url = "https://...", to which postern appends /Users`)
	if v, ok := s.text("url"); ok {
		o.SCIMURL = p.url(v, "url", s.at("url"), KindOIDC)
	}
	o.SCIMToken, _ = s.secret("token")
	if !s.has("token") && o.ClientID == "" {
		p.complain(s.header, "the scim block has no token, and the backend no client_id with which postern would get one",
			`add client_id and client_secret of a client that may read users, or token = file("path")`)
	}
	s.texts("scope", func(v value, at hcl.Range) { o.SCIMScopes = append(o.SCIMScopes, p.scope("scope", v, at)) })
}

// scope returns one scope of a list.
func (p *parser) scope(name string, v value, at hcl.Range) string {
	if strings.ContainsAny(v.AsString(), " \t") {
		p.complain(at, name+" holds a space", `write each scope in quotes of its own, as in ["mail", "profile"]`)
	}
	return v.AsString()
}

// issuers checks that a domain has one issuer: two have accounts of one name that belong to different people.
func (p *parser) issuers(s *section, cfg *Config, out *Domain) {
	first := ""
	for _, ref := range out.Backends {
		if ref.Kind != KindOIDC {
			continue
		}
		issuer := cfg.Backends[p.blocks[ref]].URL
		if first == "" {
			first = issuer
		}
		if issuer != first {
			p.complain(s.at("backends"), "the domain has two issuers: an account of the one would log in as that of the same name at the other",
				"give each issuer a domain of its own")
			return
		}
	}
}

// Bearer is what servers tell their clients of bearer tokens.
type Bearer struct {
	Offered bool // a domain takes them
	// Discovery is the URL of the discovery document, and Scope the scopes that a token must have, split by spaces. Both are
	// empty if there are several issuers.
	Discovery, Scope string
}

// Bearer returns what the domains' backends say of bearer tokens, for the listeners that have one answer for all domains.
func (c *Config) Bearer() Bearer {
	var all []*Backend
	for i := range c.Domains {
		for _, ref := range c.Domains[i].Backends {
			if at := slices.IndexFunc(c.Backends, func(b Backend) bool { return b.BackendRef == ref }); at >= 0 {
				all = append(all, &c.Backends[at])
			}
		}
	}
	return BearerOf(all)
}

// BearerOf returns what some backends say of bearer tokens.
func BearerOf(all []*Backend) (b Bearer) {
	var last *Backend
	for _, p := range all {
		if !p.TakesTokens() {
			continue
		}
		b.Offered = true
		if last != nil && (last.URL != p.URL || !slices.Equal(last.OIDC.Scopes, p.OIDC.Scopes)) {
			return Bearer{Offered: true}
		}
		last = p
		b.Discovery, b.Scope = oidc.DiscoveryURL(p.URL), strings.Join(p.OIDC.Scopes, " ")
	}
	return b
}

// words returns some of the allowed words; nil without the attribute.
func (s *section) words(name string, allowed ...string) (out []string) {
	s.texts(name, func(v value, at hcl.Range) {
		switch text := v.AsString(); {
		case !slices.Contains(allowed, text) && v.external:
			s.p.complain(at, name+" has an unknown value", "known here: "+strings.Join(allowed, ", "))
		case !slices.Contains(allowed, text):
			s.p.complain(at, fmt.Sprintf("%s %s is unknown", name, shown(v)), didYouMean(text, allowed))
		case !slices.Contains(out, text):
			out = append(out, text)
		}
	})
	return out
}
