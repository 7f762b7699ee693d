// Package starter makes a first configuration from a few answers: what the logins come from, which
// servers ask, and for which domains. It only writes texts. `postern config new` asks the questions,
// checks the result as any configuration, and writes the files.
package starter

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/config"
)

// Source is something that logins can come from, a kind of backend.
type Source struct {
	Kind   string // of the block
	About  string
	URL    string // the question for its address; empty: it has none
	Admin  bool   // there may be a service account, and the secret is its password
	Secret string // the question for its secret; empty: it has none
	name   string // of the block
}

// Sources are all that a first configuration can have, in the order of the question.
var Sources = []Source{
	{
		Kind: config.KindNextcloud, About: "Nextcloud, with passwords and app passwords", name: "cloud",
		URL: "Address of Nextcloud, without index.php", Admin: true, Secret: "App password of the service account",
	},
	{Kind: config.KindUsers, About: "postern's own users, added with `postern user add`", name: "local"},
	{
		Kind: config.KindJSXC, About: "Nextcloud up to version 23, by the JSXC app", name: "cloud",
		URL: "API address, from the administration page of the app", Secret: "API secret, from the same page",
	},
	{Kind: config.KindJSON, About: "a web application with postern's JSON API", URL: "Address of the API, to which postern adds /login and /exists", name: "app"},
	{Kind: config.KindOIDC, About: "an OpenID Connect provider, such as Keycloak: tokens in the place of passwords", URL: "Issuer, as the provider's tokens have it", name: "idp"},
}

// FindSource returns a source by its kind, or nil.
func FindSource(kind string) *Source {
	for i := range Sources {
		if Sources[i].Kind == kind {
			return &Sources[i]
		}
	}
	return nil
}

// Answers are what a first configuration depends on. File is its absolute path; secrets go into
// files beside it.
type Answers struct {
	Logins      string   // the kind of a Source
	URL         string   // of sources that have one
	AdminUser   string   // the service account, of sources that may have one; empty: none
	Servers     []string // names of Servers
	Domains     []string // the first one is that of logins without a domain
	File        string
	DataDir     string // absolute; empty: the default
	Credentials bool   // secrets are credentials of the unit
}

// Errors of Check.
var (
	errNoServer = errors.New("no server is named: name at least one of " + strings.Join(Servers(), ", "))
	errNoDomain = errors.New("no domain is named: name the domains of the accounts, as in example.org")
	errNoAdmin  = errors.New("postfix asks which recipients exist, and Nextcloud says that to a service account only: name one with --admin-user (see `postern help nextcloud`)")
)

// NeedsAdmin reports whether a server asks what the source answers to a service account only.
func (a *Answers) NeedsAdmin() bool {
	s := FindSource(a.Logins)
	return s != nil && s.Admin && slices.ContainsFunc(a.Servers, func(name string) bool { s := find(name); return s != nil && s.looksUp })
}

// Check returns why there is no configuration for the answers, and makes the domains canonical.
func (a *Answers) Check() error {
	source := FindSource(a.Logins)
	switch {
	case source == nil:
		return fmt.Errorf("logins cannot come from %q: choose one of %s", a.Logins, strings.Join(kinds(), ", "))
	case source.URL != "" && a.URL == "":
		return fmt.Errorf("logins from %s need an address: %s", a.Logins, source.URL)
	case source.URL == "" && a.URL != "":
		return fmt.Errorf("logins from %s have no address", a.Logins)
	case !source.Admin && a.AdminUser != "":
		return fmt.Errorf("logins from %s have no service account", a.Logins)
	case len(a.Servers) == 0:
		return errNoServer
	case len(a.Domains) == 0:
		return errNoDomain
	case a.NeedsAdmin() && a.AdminUser == "":
		return errNoAdmin
	}
	for _, name := range a.Servers {
		if find(name) == nil {
			return fmt.Errorf("there is no server %q here: name some of %s", name, strings.Join(Servers(), ", "))
		}
	}
	var domains []string
	for _, name := range a.Domains {
		domain, err := auth.FoldDomain(name)
		if err != nil || domain == "" || strings.Contains(domain, "*") {
			return fmt.Errorf("%q is not a domain: write it as in example.org", name)
		}
		if !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	a.Domains = domains
	return nil
}

func kinds() (names []string) {
	for _, s := range Sources {
		names = append(names, s.Kind)
	}
	return names
}

// SecretName returns the name of the backend's secret, as a file and as a credential, or "" if the answers need none.
func (a *Answers) SecretName() string {
	s := FindSource(a.Logins)
	if s.Secret == "" || s.Admin && a.AdminUser == "" {
		return ""
	}
	return s.Kind + ".secret"
}

// MadeName is SecretName for the secret of a listener, which may be any; "" if the answers need none.
func (a *Answers) MadeName() string {
	if slices.ContainsFunc(a.Servers, func(name string) bool { s := find(name); return s != nil && s.byHTTP }) {
		return httpSecret
	}
	return ""
}

// SecretFile returns the path of a secret's file.
func (a *Answers) SecretFile(name string) string { return filepath.Join(filepath.Dir(a.File), name) }

// secret returns the expression for a secret.
func (a *Answers) secret(name string) string {
	if a.Credentials {
		return "credential(" + config.Quote(name) + ")"
	}
	return "file(" + config.Quote(a.SecretFile(name)) + ")"
}

// Config returns the text of the configuration. It has fewer than 40 lines for up to three domains and
// three servers, and one more for each other domain.
func (a *Answers) Config() string {
	var b strings.Builder
	b.WriteString("# Written by `postern config new`. Every setting, with its default, is in config.hcl.example.\n")
	if a.DataDir != "" {
		b.WriteString("data_dir = " + config.Quote(a.DataDir) + "\n")
	}
	shared := map[string]bool{}
	for _, name := range Servers() {
		for _, l := range find(name).listeners {
			if slices.Contains(a.Servers, name) && !shared[l] {
				shared[l] = true
				b.WriteString("\n" + strings.NewReplacer("DOMAIN", a.Domains[0], "SECRET", a.secret(httpSecret)).Replace(l))
			}
		}
	}
	b.WriteString(a.relay())
	s := FindSource(a.Logins)
	fmt.Fprintf(&b, "\nbackend %q %q { # %s\n%s}\n\n", s.Kind, s.name, s.About, a.backend())
	for _, domain := range a.Domains {
		fmt.Fprintf(&b, "domain %s { backends = [backend.%s.%s] }\n", config.Quote(domain), s.Kind, s.name)
	}
	return b.String()
}

// relay returns the block of the listener for programs that servers start; "" if there are none.
func (a *Answers) relay() string {
	var users []string
	for _, name := range Servers() {
		if user := find(name).user; user != "" && slices.Contains(a.Servers, name) {
			users = append(users, config.Quote(user))
		}
	}
	if users == nil {
		return ""
	}
	return fmt.Sprintf(`
listen "relay" { # for postern pipe, which these users start
  users          = [%s]
  default_domain = %s # of logins without a domain
  changes        = false # a list of users: they may register accounts and set passwords
}
`, strings.Join(users, ", "), config.Quote(a.Domains[0]))
}

// backend returns the lines of the backend block.
func (a *Answers) backend() string {
	secret := a.secret(a.SecretName())
	switch {
	case a.Logins == config.KindUsers:
		return ""
	case a.Logins == config.KindOIDC:
		return fmt.Sprintf("  issuer         = %s\n  audience       = \"postern\" # aud of the tokens for these servers: set it up at the provider\n"+
			"  username_claim = \"preferred_username\" # one that users cannot change there\n", config.Quote(a.URL))
	case a.SecretName() == "" && a.Logins == config.KindNextcloud:
		return "  url = " + config.Quote(a.URL) + "\n  # Without admin_user and admin_password only users who have logged in are known to exist.\n"
	case a.SecretName() == "":
		return "  url = " + config.Quote(a.URL) + "\n"
	case a.AdminUser != "":
		return fmt.Sprintf("  url            = %s\n  admin_user     = %s # looks up users and sets passwords\n  admin_password = %s\n",
			config.Quote(a.URL), config.Quote(a.AdminUser), secret)
	}
	return fmt.Sprintf("  url    = %s\n  secret = %s\n", config.Quote(a.URL), secret)
}

// DropIn returns the drop-in that the unit needs; "" if it needs none.
func (a *Answers) DropIn() string {
	var lines strings.Builder
	for _, name := range []string{a.SecretName(), a.MadeName()} {
		if name != "" {
			fmt.Fprintf(&lines, "LoadCredential=%s:%s\n", name, strings.ReplaceAll(a.SecretFile(name), "%", "%%"))
		}
	}
	if !a.Credentials || lines.Len() == 0 {
		return ""
	}
	return "# Written by `postern config new`.\n[Service]\n" + lines.String()
}

// Lines are what goes into the configuration of a server, and what is to be done then.
type Lines struct {
	Server   string
	Places   []Place
	Commands []string
	Topic    string // of the manual's page that has the rest
}

// Lines returns what the servers need.
func (a *Answers) Lines() (out []Lines) {
	for _, name := range Servers() {
		if !slices.Contains(a.Servers, name) {
			continue
		}
		s := find(name)
		lines := Lines{Server: name, Topic: s.topic}
		for _, p := range s.places {
			text := p.Text
			if s.perDomain {
				text = ""
				for _, domain := range a.Domains {
					text += strings.ReplaceAll(p.Text, "DOMAIN", domain)
				}
			}
			lines.Places = append(lines.Places, Place{strings.ReplaceAll(p.Where, "DOMAIN", a.Domains[0]), text})
		}
		for _, command := range s.commands {
			lines.Commands = append(lines.Commands, strings.ReplaceAll(command, "SECRET", config.QuoteShell(a.SecretFile(httpSecret))))
		}
		out = append(out, lines)
	}
	return out
}
