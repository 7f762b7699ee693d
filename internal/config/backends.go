package config

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
)

// The kinds of backends.
const (
	KindNextcloud = "nextcloud"
	KindJSXC      = "jsxc"
	KindJSON      = "json"
	KindUsers     = "users"
	KindHTTP      = "http"
	KindAuthHTTP  = "auth_http"

	KindAppPasswords = "app_passwords"
	KindOIDC         = "oidc"
)

// Numbers of requests that may wait for a slot.
const (
	maxQueue    = 65536 // only memory bounds it
	formerQueue = 64    // the default until 0.1
)

// backend decodes a backend block.
func (p *parser) backend(s *section, cfg *Config) Backend {
	out := Backend{BackendRef: BackendRef{s.labels[0], s.labels[1]}}
	if !hclsyntax.ValidIdentifier(out.Name) || len(out.Name) > 64 {
		p.complain(s.label, "the label is not usable as a name",
			"use up to 64 letters, digits, _ and -, a letter first, so that backend."+out.Kind+".NAME can refer to it")
	} else if cfg.backend(out.BackendRef) != nil {
		p.complain(s.label, fmt.Sprintf("two backends are named %s", out.BackendRef), "rename one")
	}
	out.Slots = s.number("slots", 32, 1, 4096)
	out.MinSlots = s.number("min_slots", min(4, out.Slots), 1, 4096)
	if out.MinSlots > out.Slots {
		p.complain(s.at("min_slots"), fmt.Sprintf("min_slots is more than slots, which are %d", out.Slots), "a slow backend still gets min_slots of its slots: make it the smaller number")
	}
	out.Queue = s.number("queue", maxQueue, 0, maxQueue)
	if out.Queue == formerQueue {
		p.warn(s.at("queue"), "queue = 64, once the default, refuses a burst that the backend could serve in time",
			"leave the line out: how long requests wait is bounded by their deadlines")
	}
	out.BreakerFailures = s.number("breaker_failures", 5, 1, 1000)
	out.BreakerCooldown = s.duration("breaker_cooldown", time.Second, 10*time.Millisecond)
	out.FoldCase = s.flag("fold_case", out.Kind != KindJSON && out.Kind != KindHTTP && out.Kind != KindAuthHTTP)
	out.AuthorityName = s.textOr("authority", "")
	switch out.Kind {
	case KindUsers:
		out.Path = p.resolve(cfg.DataDir, s.textOr("path", "users"))
		out.BcryptCost = s.number("bcrypt_cost", passhash.DefaultCost, passhash.MinCost, passhash.MaxCost)
		return out
	case KindAppPasswords:
		p.appPasswordBackend(s, cfg, &out)
		return out
	case KindJSXC:
		out.AcceptOtherID = s.flag("accept_other_id", false)
		out.Secret, _ = s.secret("secret")
		s.need("secret", "backend jsxc needs the API secret of the server",
			`add secret = file("path"); the JSXC app shows it in its administration page`)
	case KindNextcloud:
		p.nextcloud(s, &out)
	case KindOIDC:
		p.oidc(s, &out)
	case KindHTTP:
		p.endpointBackend(s, &out)
	case KindAuthHTTP:
		out.ServiceUser = s.textOr("service_user", "")
		out.ServicePassword, _ = s.secret("service_password")
		if s.has("service_user") != s.has("service_password") || strings.Contains(out.ServiceUser, ":") {
			p.complain(s.header, "the service has only one of service_user and service_password, or a colon in its name", `give both, the password as file("path"), or none`)
		}
	}
	p.http(s, &out)
	return out
}

// endpointBackend decodes the attributes that only a backend of the kind http has.
func (p *parser) endpointBackend(s *section, out *Backend) {
	out.Method = s.word("method", "GET", "GET", "POST")
	out.Realm, out.DenyBody, out.TrueAt = s.textOr("realm", ""), s.textOr("deny_body", ""), s.textOr("true_at", "")
	switch {
	case out.Realm == "" && out.DenyBody == "" && out.TrueAt == "":
		p.complain(s.header, "no answer of this backend would be a no: a wrong password would be a temporary failure",
			"add realm = ... or deny_body = ..., of the endpoint's own 401, or true_at = \"/POINTER\"")
	case out.TrueAt != "" && out.TrueAt[0] != '/':
		p.complain(s.at("true_at"), "true_at is not a JSON pointer", `write it as in "/user/valid"`)
	}
}

// nextcloud decodes the attributes that only Nextcloud has.
func (p *parser) nextcloud(s *section, out *Backend) {
	out.AdminUser = s.textOr("admin_user", "")
	out.AdminPassword, _ = s.secret("admin_password")
	out.AcceptOtherID = s.flag("accept_other_id", false)
	out.MaxDelay = s.duration("max_delay", 1600*time.Millisecond, 100*time.Millisecond)
	out.MaxMembers = s.number("max_members", 10000, 1, 1000000)
	switch {
	case s.has("admin_user") != s.has("admin_password"):
		p.complain(s.header, "the service account has only one of admin_user and admin_password",
			`give both, the password as file("path"), or none`)
	case strings.Contains(out.AdminUser, ":"):
		p.complain(s.at("admin_user"), "admin_user holds a colon", "no such name can log in: write the account name alone")
	}
}

// http decodes the attributes that backends with an HTTP API have in common.
func (p *parser) http(s *section, out *Backend) {
	out.ConnectTimeout = s.duration("connect_timeout", 5*time.Second, 10*time.Millisecond)
	out.Timeout = s.duration("timeout", 10*time.Second, 10*time.Millisecond)
	out.RefusalBudget = s.number("refusal_budget", budgetOf(out.Kind), 0, 1000)
	out.RefusalWindow = s.duration("refusal_window", 30*time.Minute, time.Second)
	out.MaxResponse = int64(s.number("max_response", 1<<20, 256, 1<<30))
	out.UserAgent = s.textOr("user_agent", "")
	attr := "url"
	if out.Kind == KindOIDC {
		attr = "issuer"
	}
	s.need(attr, "the backend has no "+attr, `add `+attr+` = "https://..."`)
	if v, ok := s.text(attr); ok {
		out.URL = p.url(v, attr, s.at(attr), out.Kind)
	}
	out.Proxy = p.proxy(s)
	if out.CAFile = p.resolve(p.dir, s.textOr("ca_file", "")); out.CAFile == "" {
		return
	}
	p.files = append(p.files, out.CAFile)
	data, err := p.env.readFile(out.CAFile)
	out.CASum = sha256.Sum256(data)
	if err != nil {
		p.complain(s.at("ca_file"), fmt.Sprintf("cannot read the file: %v", cause(err)),
			"correct the path or its permissions; a relative path starts at the configuration's directory")
	} else if !x509.NewCertPool().AppendCertsFromPEM(data) {
		p.complain(s.at("ca_file"), "the file holds no certificate", "it must hold CA certificates in PEM form")
	}
}

// proxy decodes the proxy of a backend. No message quotes it: it may hold a password.
func (p *parser) proxy(s *section) auth.Secret {
	const cure = `write "environment", or a URL as in "http://proxy.example.org:3128"`
	v, ok := s.get("proxy", cty.String, cure)
	if !ok {
		return auth.Secret{}
	}
	text := v.AsString()
	if text == "environment" {
		return auth.NewSecret(text)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		p.complain(s.at("proxy"), "proxy is not the URL of a proxy that is reached by http", cure)
		return auth.Secret{}
	}
	if u.User == nil {
		return auth.NewSecret(text)
	}
	secret, _ := s.asSecret("proxy", v, s.at("proxy"))
	return secret
}

// budgetOf returns the default of refusal_budget. Nextcloud locks out an address after ten
// refusals in half an hour; the other kinds do not count refusals.
func budgetOf(kind string) int {
	if kind == KindNextcloud {
		return 8
	}
	return 0
}

// url checks the URL of a backend. It may hold a password, so no message quotes it.
func (p *parser) url(v value, attr string, at hcl.Range, kind string) string {
	message, cure := "", ""
	u, err := url.Parse(v.AsString())
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Opaque != "":
		message, cure = attr+" is not an absolute http or https URL", `write it as in "https://cloud.example.org/path"`
	case u.User != nil:
		message, cure = attr+" holds a user name or password", "remove the text before the @: it would be logged"
	case u.Fragment != "" || strings.Contains(v.AsString(), "#"):
		message, cure = attr+" holds a fragment", "remove the # and what follows"
	case (kind == KindNextcloud || kind == KindJSON || kind == KindOIDC || kind == KindAuthHTTP) && (u.RawQuery != "" || u.ForceQuery):
		message, cure = attr+" holds a query", "remove the ? and what follows: postern appends a path to the "+attr
	}
	if message != "" {
		p.complain(at, message, cure)
		return ""
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		p.warn(at, "passwords are sent in clear text to this "+attr, "use https")
	}
	return v.AsString()
}
