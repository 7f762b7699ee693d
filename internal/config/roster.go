package config

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"

	"postern/internal/auth"
)

// The kinds of rosters: the XMPP server that has them.
const (
	RosterEjabberd = "ejabberd"
	RosterProsody  = "prosody"
)

// Roster is a roster block. Fields that its kind does not have are zero.
type Roster struct {
	Kind        string
	Ejabberdctl string      // ejabberd: the program, or
	API         string      // ejabberd: the URL of mod_http_api
	Token       auth.Secret // ejabberd: for API; may be empty
	CutSessions bool        // ejabberd: end a user's sessions when the password or the account was changed
	GroupsFile  string      // prosody: absolute
	Reload      []string    // prosody: the command to run after a change of the file

	Include, Exclude []string // patterns of group names
	Foreign          []string // other domains with accounts that are changed, canonical; "*": all
	MaxMembers       int      // larger groups are ignored; 0: no limit

	Window      time.Duration // logins within it are handled together
	MinInterval time.Duration // between two requests for one user
	Timeout     time.Duration // of one command
}

// roster decodes the roster block of a domain. It returns nil without one.
func (p *parser) roster(parent *section, cfg *Config, domain string) *Roster {
	s := p.only(parent, "roster")
	if s.absent {
		return nil
	}
	out := &Roster{
		Kind:        s.labels[0],
		Include:     p.patterns(s, "include"),
		Exclude:     p.patterns(s, "exclude"),
		Foreign:     p.foreign(s),
		MaxMembers:  s.number("max_members", 0, 0, 1_000_000),
		Window:      s.duration("window", 2*time.Second, 10*time.Millisecond),
		MinInterval: s.duration("min_interval", time.Minute, 0),
		Timeout:     s.duration("timeout", 30*time.Second, 100*time.Millisecond),
	}
	if out.Kind == RosterProsody {
		p.prosody(s, cfg, domain, out)
	} else {
		p.ejabberd(s, out)
	}
	return out
}

func (p *parser) patterns(s *section, name string) (out []string) {
	s.texts(name, func(v value, at hcl.Range) {
		if utf8.RuneCountInString(v.AsString()) > 256 {
			p.complain(at, name+" holds a very long pattern", "write * for the part that differs")
		}
		out = append(out, v.AsString())
	})
	return out
}

// foreign decodes the other domains with accounts that a roster may change.
func (p *parser) foreign(s *section) (out []string) {
	s.texts("foreign", func(v value, at hcl.Range) {
		name := v.AsString()
		if name != "*" {
			folded, err := auth.FoldDomain(name)
			if err != nil {
				p.complain(at, "foreign holds what is no domain", `write domains as in "example.net", or "*" for every domain`)
			}
			name = folded
		}
		out = append(out, name)
	})
	return out
}

func (p *parser) ejabberd(s *section, out *Roster) {
	out.Ejabberdctl = s.textOr("ejabberdctl", "")
	out.CutSessions = s.flag("cut_sessions", false)
	if v, ok := s.text("api"); ok {
		out.API = p.url(v, "url", s.at("api"), "")
	}
	if s.has("token") {
		out.Token, _ = s.secret("token")
	}
	switch {
	case s.has("ejabberdctl") && s.has("api"):
		p.complain(s.at("ejabberdctl"), "both ejabberdctl and api are given", "keep api, which is much faster, or ejabberdctl, which needs no set-up")
	case s.has("ejabberdctl") && s.has("token"):
		p.complain(s.at("token"), "token is for the api only", "remove it")
	case !s.has("ejabberdctl") && !s.has("api"):
		p.complain(s.header, "neither api nor ejabberdctl is given", `add api = "http://127.0.0.1:5281/api", or ejabberdctl = "/usr/sbin/ejabberdctl"`)
	}
}

func (p *parser) prosody(s *section, cfg *Config, domain string, out *Roster) {
	out.GroupsFile = p.resolve(cfg.DataDir, s.textOr("groups_file", ""))
	s.texts("reload", func(v value, _ hcl.Range) { out.Reload = append(out.Reload, v.AsString()) })
	if !s.has("reload") {
		out.Reload = []string{"prosodyctl", "shell", "module", "reload", "groups", domain}
	}
	s.need("groups_file", "roster prosody needs a groups_file", `add groups_file = "/var/lib/postern/groups.txt", and the same to mod_groups`)
	if domain == "*" {
		p.complain(s.header, "a groups_file of Prosody is for one host", "give each domain a block with a roster of its own")
	}
	for i := range cfg.Domains {
		if r := cfg.Domains[i].Roster; r != nil && r.GroupsFile != "" && r.GroupsFile == out.GroupsFile {
			p.complain(s.at("groups_file"), fmt.Sprintf("domain %q writes the same groups_file", cfg.Domains[i].Name), "give each domain a file of its own")
		}
	}
}
