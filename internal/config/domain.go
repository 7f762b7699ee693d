package config

import (
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
)

// domain decodes a domain block.
func (p *parser) domain(s *section, cfg *Config) Domain {
	name := s.labels[0]
	if name != "*" {
		folded, err := auth.FoldDomain(name)
		if err != nil || strings.Contains(folded, "*") {
			p.complain(s.label, "the label is not a domain", `write one as in "example.org", or "*" for every other domain`)
		}
		name = folded
	}
	if name != "" && p.domains[name] {
		p.complain(s.label, fmt.Sprintf("domain %q is configured twice", clip(name)),
			"join the blocks; upper and lower case and xn-- spellings are one domain")
	}
	p.domains[name] = true
	out := Domain{Name: name, Backends: p.references(s, cfg)}
	p.appPasswords(s, cfg, &out)
	p.issuers(s, cfg, &out)
	s.texts("auth_domain", func(v value, at hcl.Range) {
		if err := auth.CheckDomain(v.AsString()); err != nil {
			p.complain(at, "auth_domain is not a domain", `write the domain's name at the backend, as in "cloud.example.org"`)
		}
		out.AuthDomains = append(out.AuthDomains, v.AsString())
	})
	out.Login = p.login(s, cfg, out.Backends)
	out.ChangeAdmins = s.flag("change_admins", false)
	if s.has("change_admins") && !slices.ContainsFunc(out.Backends, func(r BackendRef) bool { return r.Kind == KindNextcloud }) {
		p.warn(s.at("change_admins"), "the line has no effect, since no backend of the domain has administrators", "it is for nextcloud backends")
	}
	out.Local = p.local(s, name)
	out.UnescapeJID = s.flag("unescape_jid", false)
	p.tokens(s, cfg, &out)
	p.scram(s, cfg, &out)
	out.Cache = p.cache(s, cfg, 100000)
	out.Limit = p.domainLimit(s, out.Backends, cfg.Registry.Limit)
	out.Roster = p.roster(s, cfg, name)
	p.allow(s, cfg, &out)
	return out
}

// local decodes local = ["example.org", ...] of the block "*". Unlike other lists it may be empty, to
// say that there are none.
func (p *parser) local(s *section, name string) []string {
	attr := s.body.Attributes["local"]
	if attr == nil {
		return nil
	}
	if name != "*" {
		p.complain(s.at("local"), `local is for domain "*" only`, "remove the line: a domain with a block is local")
	}
	if tuple, ok := attr.Expr.(*hclsyntax.TupleConsExpr); ok && len(tuple.Exprs) == 0 {
		return []string{}
	}
	out := []string{}
	s.texts("local", func(v value, at hcl.Range) {
		domain, err := auth.FoldDomain(v.AsString())
		if err != nil || strings.Contains(domain, "*") {
			p.complain(at, "local has a text that is not a domain", `write one as in "example.org"`)
		}
		out = append(out, domain)
	})
	return out
}

// maxLogins bounds the login names of one user: Nextcloud counts each wrong one as a failed login.
const maxLogins = 4

// login decodes login = ["{user}", ...].
func (p *parser) login(s *section, cfg *Config, refs []BackendRef) []string {
	var rules []string
	s.texts("login", func(v value, at hcl.Range) {
		rule := v.AsString()
		rest := strings.NewReplacer("{user}", "", "{domain}", "").Replace(rule)
		switch {
		case !strings.Contains(rule, "{user}"):
			p.complain(at, "the rule makes the same login name for all users", `put {user} into it, as in "{user}@{domain}"`)
		case strings.ContainsAny(rest, "{}"):
			p.complain(at, "the rule has braces around another word than user or domain", "known here: {user}, {domain}")
		case strings.Contains(rest, ":"):
			p.complain(at, "the rule holds a colon", "no login name can have one")
		case slices.Contains(rules, rule):
			p.complain(at, "the rule is listed twice", "remove one")
		case len(rules) == maxLogins:
			p.complain(at, "there are too many rules", fmt.Sprintf("keep %d: every wrong guess is a failed login at the server", maxLogins))
		default:
			rules = append(rules, rule)
		}
	})
	named := func(r BackendRef) bool {
		b := &cfg.Backends[p.blocks[r]]
		return r.Kind == KindNextcloud || r.Kind == KindHTTP || b.Accepts(AcceptPasswordGrant) || b.OIDC.SCIMURL != ""
	}
	if s.has("login") && !slices.ContainsFunc(refs, named) {
		p.warn(s.at("login"), "the line has no effect, since no backend of the domain has login names", "it is for nextcloud and http backends, and for oidc ones with password_grant or scim")
	}
	if len(rules) == 0 {
		return []string{"{user}"}
	}
	return rules
}

// references decodes backends = [backend.KIND.NAME, ...].
func (p *parser) references(s *section, cfg *Config) []BackendRef {
	attr := s.body.Attributes["backends"]
	if attr == nil {
		p.complain(s.header, "the domain has no backends, so every login would be refused", "add backends = [backend.KIND.NAME]")
		return nil
	}
	members, ok := p.elements(attr.Expr, "backends")
	if !ok {
		return nil
	}
	if len(members) == 0 {
		p.complain(attr.Expr.Range(), "the list of backends is empty, so every login would be refused", "write backends = [backend.KIND.NAME]")
	}
	var refs []BackendRef
	for _, member := range members {
		ref, ok := p.reference(member)
		if !ok {
			continue
		}
		_, known := p.blocks[ref]
		switch {
		case !known:
			p.complain(member.Range(), fmt.Sprintf("there is no backend.%s", ref), cfg.knownBackends(ref))
		case slices.Contains(refs, ref):
			p.complain(member.Range(), fmt.Sprintf("backend.%s is listed twice", ref), "remove one")
		default:
			refs = append(refs, ref)
		}
	}
	return refs
}

func (p *parser) reference(e hclsyntax.Expression) (ref BackendRef, ok bool) {
	traversal, diags := hcl.AbsTraversalForExpr(e)
	if !diags.HasErrors() && len(traversal) == 3 && traversal.RootName() == "backend" {
		kind, isKind := traversal[1].(hcl.TraverseAttr)
		name, isName := traversal[2].(hcl.TraverseAttr)
		if isKind && isName {
			return BackendRef{kind.Name, name.Name}, true
		}
	}
	p.complain(e.Range(), "this does not refer to a backend", "write backend.KIND.NAME, without quotes")
	return BackendRef{}, false
}

// knownBackends is the cure for a reference to an unknown backend.
func (c *Config) knownBackends(ref BackendRef) string {
	if len(c.Backends) == 0 {
		return fmt.Sprintf("add a block: backend %q %q { ... }", ref.Kind, ref.Name)
	}
	names := make([]string, len(c.Backends))
	for i := range c.Backends {
		names[i] = "backend." + c.Backends[i].String()
	}
	return didYouMean("backend."+ref.String(), names)
}

// tokens decodes the token blocks of a domain.
func (p *parser) tokens(s *section, cfg *Config, out *Domain) {
	seen := make(map[string]bool)
	for _, child := range s.sections("token") {
		kind := child.labels[0]
		if seen[kind] {
			p.complain(child.label, fmt.Sprintf("there are two token %q blocks", kind), "join them; secrets takes a list")
		}
		seen[kind] = true
		if kind == "totp" {
			out.TOTP = p.totp(child)
		} else {
			out.JSXC = p.jsxc(child, cfg, out.Backends)
		}
	}
	if secrets := p.jsxcSecrets(cfg, out.Backends); !seen["jsxc"] && len(secrets) > 0 {
		out.JSXC = &JSXCToken{Secrets: secrets, TTL: time.Hour}
	}
}

// jsxcSecrets lists the secrets of the jsxc backends among refs: their servers sign tokens with
// them.
func (p *parser) jsxcSecrets(cfg *Config, refs []BackendRef) []auth.Secret {
	var out []auth.Secret
	for _, ref := range refs {
		if b := &cfg.Backends[p.blocks[ref]]; b.Kind == KindJSXC && !b.Secret.Empty() {
			out = append(out, b.Secret)
		}
	}
	return out
}

// jsxc decodes a token "jsxc" block. It returns nil for enabled = false.
func (p *parser) jsxc(s *section, cfg *Config, refs []BackendRef) *JSXCToken {
	enabled := s.flag("enabled", true)
	out := &JSXCToken{Secrets: s.secrets("secrets"), TTL: s.duration("ttl", time.Hour, time.Second)}
	if !s.has("secrets") {
		if out.Secrets = p.jsxcSecrets(cfg, refs); enabled && len(out.Secrets) == 0 {
			p.complain(s.header, "the token has no secret, and the domain no jsxc backend to take it from",
				`add secrets = [file("path")]`)
		}
	}
	if !enabled {
		return nil
	}
	return out
}

// totp decodes a token "totp" block.
func (p *parser) totp(s *section) *TOTPToken {
	out := &TOTPToken{Secrets: s.secrets("secrets"), NonceDigits: s.number("nonce_digits", 32, 0, 64)}
	s.need("secrets", "token totp needs the token_secret of mod_auth_token", `add secrets = [env("TOKEN_SECRET")]`)
	s.need("seed", "token totp needs the otp_seed of mod_auth_token", `add seed = env("OTP_SEED")`)
	seed, ok := s.secret("seed")
	if !ok {
		return out
	}
	text := strings.ToUpper(strings.TrimRight(seed.Reveal(), "="))
	if _, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text); err != nil || text == "" {
		p.complain(s.at("seed"), "seed is not base32", "it is made of the letters A to Z and the digits 2 to 7")
		return out
	}
	out.Seed = seed
	return out
}

// cache decodes the cache block, or returns the defaults. hot is the default of hot_entries.
func (p *parser) cache(parent *section, cfg *Config, hot int) Cache {
	s := p.only(parent, "cache")
	out := Cache{
		Storage: Storage(s.word("storage", string(StorageDisk),
			string(StorageNone), string(StorageMemory), string(StorageDisk))),
		QueryTTL:   s.duration("query_ttl", time.Hour, 0),
		VerifyTTL:  s.duration("verify_ttl", day, 0),
		OutageTTL:  s.duration("outage_ttl", week, 0),
		RefusedTTL: s.duration("refused_ttl", 5*time.Minute, 0),
		ExistsTTL:  s.duration("exists_ttl", time.Hour, 0),
		AbsentTTL:  s.duration("absent_ttl", time.Minute, 0),
		BcryptCost: s.number("bcrypt_cost", passhash.DefaultCost, passhash.MinCost, passhash.MaxCost),
		Secrets:    s.number("secrets", 4, 1, 16),
		HotEntries: s.number("hot_entries", hot, 1, 100_000_000),
		Key:        p.key(s, cfg.DataDir),
	}
	if out.Storage != StorageDisk && s.has("key") {
		p.warn(s.at("key"), "the line has no effect, since nothing is kept on disk", `remove it, or write storage = "disk"`)
	}
	if out.QueryTTL > out.VerifyTTL {
		p.warn(s.header, "query_ttl is longer than verify_ttl, so it has no effect", "make query_ttl the shorter one")
	}
	if out.VerifyTTL > out.OutageTTL {
		p.warn(s.header, "verify_ttl is longer than outage_ttl, so an outage refuses logins that the cache would still allow",
			"make outage_ttl the longest")
	}
	return out
}
