package starter

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/internal/config"
	"postern/internal/unit"
)

const (
	secretText = "s3cret"
	httpText   = "another-secret-of-some-length"
)

// answers are valid ones for a source.
func answers(s *Source, servers ...string) Answers {
	a := Answers{Logins: s.Kind, Servers: servers, Domains: []string{"example.org"}, File: "/etc/postern/config.hcl"}
	if s.URL != "" {
		a.URL = "https://cloud.example.org/path"
	}
	return a
}

// check reads a configuration as the daemon would, with the secret where the answers say.
func check(t *testing.T, a *Answers) *config.Config {
	t.Helper()
	if err := a.Check(); err != nil {
		t.Fatalf("%+v: %v", a, err)
	}
	env := config.Env{
		Root: true,
		ReadFile: func(name string) ([]byte, error) {
			switch name {
			case a.SecretFile(a.SecretName()):
				return []byte(secretText + "\n"), nil
			case a.SecretFile("http.secret"):
				return []byte(httpText + "\n"), nil
			}
			return nil, os.ErrNotExist
		},
		Service: func() (unit.Service, error) {
			var s unit.Service
			for line := range strings.Lines(a.DropIn()) {
				if line, ok := strings.CutPrefix(strings.TrimSpace(line), "LoadCredential="); ok {
					name, source, _ := strings.Cut(line, ":")
					s.Credentials = append(s.Credentials, unit.Credential{Name: name, Source: source})
				}
			}
			return s, nil
		},
	}
	cfg, problems := config.Parse(a.File, []byte(a.Config()), env)
	if cfg == nil || len(problems) > 0 {
		t.Fatalf("%+v: %v\n%s", a, problems, a.Config())
	}
	return cfg
}

// Every choice of servers, for every source, with and without a service account, and with credentials,
// gives a short configuration without a warning, which has what each server needs.
func TestAllAnswers(t *testing.T) {
	all := Servers()
	for i := range Sources {
		s := &Sources[i]
		for set := 1; set < 1<<len(all); set++ {
			var servers []string
			for n, name := range all {
				if set&(1<<n) != 0 {
					servers = append(servers, name)
				}
			}
			for _, admin := range []string{"", "postern"} {
				for _, credentials := range []bool{false, true} {
					a := answers(s, servers...)
					a.DataDir = "/srv/postern"
					if a.AdminUser, a.Credentials = admin, credentials; admin != "" && !s.Admin || admin == "" && a.NeedsAdmin() {
						continue
					}
					a.Domains = append(a.Domains, "example.net", "example.com")
					examine(t, &a, s)
				}
			}
		}
	}
}

func examine(t *testing.T, a *Answers, s *Source) {
	t.Helper()
	cfg, text := check(t, a), a.Config()
	// A machine has an XMPP server, a mail server and an IMAP server; more would be in each other's way.
	if n := strings.Count(text, "\n"); n >= 40 && len(a.Servers) <= 3 {
		t.Errorf("%v: %d lines:\n%s", a.Servers, n, text)
	}
	for line := range strings.Lines(text) {
		if len(line) > 110 {
			t.Errorf("%q is too long", line)
		}
	}
	if strings.Contains(text, secretText) || strings.Contains(text, "credential(") != (a.Credentials && a.SecretName()+a.MadeName() != "") {
		t.Errorf("%s", text)
	}
	b := cfg.Backends[0]
	if b.Kind != s.Kind || b.URL != a.URL || b.AdminUser != a.AdminUser ||
		(b.Secret.Reveal()+b.AdminPassword.Reveal() == secretText) != (a.SecretName() != "") || len(cfg.Domains) != 3 {
		t.Errorf("%+v", b)
	}
	protocols := map[string]bool{}
	for _, l := range cfg.Listeners {
		protocols[l.Protocol] = true
	}
	if relay := slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool {
		return l.Name == "relay" && slices.Equal(l.Users, []string{"ejabberd"})
	}); relay != slices.Contains(a.Servers, "ejabberd") {
		t.Errorf("%v: %s", a.Servers, text)
	}
	for _, l := range cfg.Listeners {
		if l.Protocol == "http" && l.Secret.Reveal() != httpText {
			t.Errorf("the secret of listener http is %q", l.Secret.Reveal())
		}
	}
	for _, name := range a.Servers {
		for _, want := range map[string][]string{
			"prosody": {"ejabberd"}, "ejabberd": {"relay"}, "postfix": {"dovecot", "socketmap"}, "exim": {"dovecot"}, "dovecot": {"http"}, "cyrus": {"saslauthd"},
		}[name] {
			if !protocols[want] {
				t.Errorf("%s lacks the protocol %s", name, want)
			}
		}
	}
	if lines := a.Lines(); len(lines) != len(a.Servers) {
		t.Errorf("lines for %d of %v", len(lines), a.Servers)
	}
}

// The lines for the servers are those of the manual.
func TestLinesAreTheManuals(t *testing.T) {
	files, err := filepath.Glob("../manual/pages/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var manual strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		manual.Write(text)
	}
	bare := strings.NewReplacer(" ", "", "\t", "", "\n", "")
	known := bare.Replace(manual.String())
	for _, l := range (&Answers{Servers: Servers(), Domains: []string{"example.org"}, File: "/etc/postern/config.hcl"}).Lines() {
		if page, err := os.ReadFile("../manual/pages/" + l.Topic + ".md"); err != nil || !strings.Contains(strings.ToLower(string(page)), l.Server) {
			t.Errorf("%s: the page %q is not about it: %v", l.Server, l.Topic, err)
		}
		lines := l.Commands
		for _, p := range l.Places {
			lines = slices.AppendSeq(lines, strings.Lines(p.Text))
		}
		for _, line := range lines {
			if !strings.Contains(known, bare.Replace(strings.TrimSpace(line))) {
				t.Errorf("%s: the manual does not have %q", l.Server, line)
			}
		}
		if l.Server == "exim" && !strings.Contains(known, bare.Replace(l.Places[0].Text)) {
			t.Errorf("Exim's authenticators are not those of the manual:\n%s", l.Places[0].Text)
		}
	}
}

func TestSeveralDomains(t *testing.T) {
	a := answers(FindSource("users"), "prosody", "postfix", "cyrus")
	a.Domains = []string{"Example.org", "example.net", "example.org", "münchen.example"}
	a.DataDir = "/srv/my \"postern\""
	cfg := check(t, &a)
	if cfg.DataDir != a.DataDir {
		t.Errorf("data_dir %s", cfg.DataDir)
	}
	var names []string
	for _, d := range cfg.Domains {
		names = append(names, d.Name)
	}
	if got := fmt.Sprint(names); got != "[example.org example.net münchen.example]" {
		t.Errorf("domains %s", got)
	}
	for _, l := range cfg.Listeners {
		if l.DefaultDomain != "" && l.DefaultDomain != "example.org" {
			t.Errorf("%s: default_domain %s", l.Name, l.DefaultDomain)
		}
	}
	if text := a.Lines()[0].Places[0].Text; strings.Count(text, "VirtualHost") != 3 {
		t.Errorf("%s", text)
	}
}

func TestRefusedAnswers(t *testing.T) {
	for want, change := range map[string]func(*Answers){
		"cannot come from":      func(a *Answers) { a.Logins = "ldap" },
		"need an address":       func(a *Answers) { a.URL = "" },
		"have no address":       func(a *Answers) { a.Logins = "users" },
		"no service account":    func(a *Answers) { a.Logins, a.AdminUser = "json", "x" },
		"no server is named":    func(a *Answers) { a.Servers = nil },
		`no server "sendmail"`:  func(a *Answers) { a.Servers = []string{"sendmail"} },
		"no domain is named":    func(a *Answers) { a.Domains = nil },
		"--admin-user":          func(a *Answers) { a.AdminUser = "" },
		`"*" is not a domain`:   func(a *Answers) { a.Domains = []string{"*"} },
		`"a b" is not a domain`: func(a *Answers) { a.Domains = []string{"a b"} },
	} {
		a := answers(FindSource("nextcloud"), "prosody", "postfix")
		a.AdminUser = "postern"
		change(&a)
		if err := a.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// What is typed cannot become anything else than the text that it is.
func TestOddAnswers(t *testing.T) {
	a := answers(FindSource("nextcloud"), "postfix", "dovecot")
	a.AdminUser, a.URL, a.File = "po\"st${env(\"HOME\")}\\ern", "https://cloud.example.org/${x}", "/etc/my \"postern\"/config.hcl"
	if cfg := check(t, &a); cfg.Backends[0].AdminUser != a.AdminUser || cfg.Backends[0].URL != a.URL {
		t.Errorf("%+v", cfg.Backends[0])
	}
	if commands := strings.Join(a.Lines()[1].Commands, "\n"); !strings.Contains(commands, `postern.lua' '/etc/my "postern"/http.secret'`) {
		t.Errorf("%s", commands)
	}
}
