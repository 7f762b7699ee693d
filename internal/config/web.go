package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"postern/internal/auth"
)

// Web is the web block: the pages for people. Without pages nothing is served.
type Web struct {
	Origin         string         // of pages that have none of their own; see Page
	Privacy        bool           // names and addresses are shortened on the status page
	TrustedProxies []netip.Prefix // peers that may name the address of a browser
	TLS            TLS            // of both pages
	Status         *Status        // nil: off
	SelfService    *SelfService   // nil: off
}

// Page is what every page of the web block has.
type Page struct {
	Origin        string   // "https://host" or "https://host:port", as browsers write it
	Socket        Listener // name, address and, of a Unix socket, its mode, owner and group
	DefaultDomain string   // of sign-ins without a domain; canonical, may be empty
}

// Status is the status page. An account may see it that is among Accounts, or in one of Groups.
type Status struct {
	Page
	Accounts []auth.Identity // as they are written, in a canonical domain
	Groups   []string        // of accounts of DefaultDomain
	Token    auth.Secret     // with which programs read /status.json; empty: none may
}

// SelfService is the page on which users manage their own accounts.
type SelfService struct {
	Page
	IMAP, SMTP string // names of the mail servers for the settings of devices; empty: there is no mail
}

// Pages returns the pages that are on, by the names of their blocks.
func (w *Web) Pages() map[string]*Page {
	pages := make(map[string]*Page)
	if w.Status != nil {
		pages["status"] = &w.Status.Page
	}
	if w.SelfService != nil {
		pages["self_service"] = &w.SelfService.Page
	}
	return pages
}

// webPages decodes the web block, which may be absent.
func (p *parser) webPages(s *section, cfg *Config) Web {
	if s.absent {
		return Web{}
	}
	out := Web{Privacy: s.flag("privacy", false), TrustedProxies: p.trustedProxies(s, localProxies())}
	if s.has("url") {
		out.Origin = p.origin(s)
	}
	if secure := p.only(s, "tls"); !secure.absent {
		out.TLS = p.tls(secure)
	}
	if status := p.only(s, "status"); !status.absent {
		out.Status = &Status{Page: p.page(status, "status", s, &out, cfg)}
		p.visitors(status, out.Status)
	}
	if own := p.only(s, "self_service"); !own.absent {
		out.SelfService = &SelfService{Page: p.page(own, "self_service", s, &out, cfg)}
		p.mailServers(own, out.SelfService)
		if out.Status != nil && out.Status.Origin != "" && out.Status.Origin == out.SelfService.Origin {
			p.complain(own.header, "both pages have the same url", "give one of them a url of its own, with another name or port")
		}
	}
	if out.Status == nil && out.SelfService == nil {
		p.complain(s.header, "the web block has no page", "add status { ... } or self_service { ... }, or remove it")
	}
	return out
}

// page decodes what every page has. in is the web block.
func (p *parser) page(s *section, name string, in *section, web *Web, cfg *Config) Page {
	out := Page{Origin: web.Origin, Socket: Listener{Name: name, TLS: web.TLS}}
	if !in.has("url") {
		s.need("url", "the page has no url", `add url = "https://status.example.org", as browsers are to write it`)
	}
	if s.has("url") {
		out.Origin = p.origin(s)
	}
	p.endpoint(s, cfg, &out.Socket)
	out.Socket.TLS = TLS{} // it is the block's
	if out.Socket.Network == "systemd" {
		p.complain(s.at("address"), "pages have no sockets of systemd", `write host:port, as in "127.0.0.1:23671", or "unix:/path"`)
	}
	for _, other := range web.Pages() {
		if same(other.Socket, out.Socket) {
			p.complain(s.at("address"), "both pages have the same address", "give each its own")
		}
	}
	if out.Socket.Address != "" && out.Socket.Address == cfg.Metrics && !strings.HasSuffix(cfg.Metrics, ":0") {
		p.complain(s.at("address"), "the metrics have the same address", "give each its own")
	}
	if v, ok := s.text("default_domain"); ok {
		domain, err := auth.FoldDomain(v.AsString())
		if err != nil || domain == "*" {
			p.complain(s.at("default_domain"), "default_domain is not a domain", `write one as in "example.org"`)
		}
		out.DefaultDomain = domain
	}
	return out
}

// origin decodes the url of a block.
func (p *parser) origin(s *section) string {
	v, ok := s.text("url")
	if !ok {
		return ""
	}
	origin, ok := originOf(v.AsString())
	if !ok {
		p.complain(s.at("url"), "url is not https://, a name and perhaps a port", `write it as in "https://status.example.org": without a path. Browsers keep a sign-in for https only`)
	}
	return origin
}

// same reports whether two sockets have one address.
func same(a, b Listener) bool {
	return a.Network == b.Network && a.Address == b.Address && a.Address != "" && !strings.HasSuffix(a.Address, ":0")
}

// originOf returns a URL as browsers write the origin of its pages. It is false if there is more to it, or less.
func originOf(text string) (origin string, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#") {
		return "", false
	}
	host := strings.ToLower(u.Host)
	for _, r := range host {
		if r <= ' ' || r > '~' || strings.ContainsRune(`"'<>\^`+"`{|}%,;", r) {
			return "", false
		}
	}
	return "https://" + strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":"), true
}

// visitors decodes which accounts may see the status page.
func (p *parser) visitors(s *section, out *Status) {
	s.texts("accounts", func(v value, at hcl.Range) {
		user, domain, _ := cutLast(v.AsString())
		if domain == "" {
			domain = out.DefaultDomain
		}
		id, err := auth.NewIdentity(user, domain)
		if err != nil {
			p.complain(at, "accounts has a text that is no account", `write them as in ["admin@example.org"], or add default_domain`)
			return
		}
		if slices.Contains(out.Accounts, id) {
			p.warn(at, "this account is named twice", "remove one")
			return
		}
		out.Accounts = append(out.Accounts, id)
	})
	s.texts("groups", func(v value, _ hcl.Range) { out.Groups = append(out.Groups, v.AsString()) })
	switch {
	case !s.has("accounts") && !s.has("groups"):
		p.complain(s.header, "the block does not say who may see the page", `add accounts = ["admin@example.org"], or groups = ["admin"] with default_domain`)
	case s.has("groups") && out.DefaultDomain == "":
		p.complain(s.at("groups"), "groups are those of one domain, and the block does not say which", `add default_domain = "example.org": another domain may have a group of the same name`)
	}
	if token, ok := s.secret("token"); ok {
		if out.Token = token; token.Len() < minHTTPSecret {
			p.complain(s.at("token"), "the token is short enough to be guessed", fmt.Sprintf("write at least %d random letters: openssl rand -hex 24", minHTTPSecret))
		}
	}
}

// mailServers decodes the mail servers that the page shows for devices.
func (p *parser) mailServers(s *section, out *SelfService) {
	for name, to := range map[string]*string{"imap": &out.IMAP, "smtp": &out.SMTP} {
		v, ok := s.text(name)
		if !ok {
			continue
		}
		if *to = v.AsString(); !hostName(*to) {
			p.complain(s.at(name), name+" is not the name of a server", fmt.Sprintf(`write it as in %s = "mail.example.org": devices use the ports 993 and 587`, name))
		}
	}
	switch {
	case !s.has("imap") && s.has("smtp"):
		p.complain(s.at("smtp"), "there is no imap beside smtp", `add imap = "mail.example.org"`)
	case s.has("imap") && !s.has("smtp"):
		out.SMTP = out.IMAP
	}
}

// hostName reports whether a text is the name of a server, or its address of IPv4.
func hostName(text string) bool {
	return text != "" && len(text) <= 253 && strings.Trim(text, "-.") == text && !strings.ContainsFunc(text, func(r rune) bool {
		return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && r != '.' && r != '-'
	})
}

// cutLast splits a name at its last "@".
func cutLast(name string) (user, domain string, found bool) {
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		return name[:i], name[i+1:], true
	}
	return name, "", false
}
