package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"postern/internal/allow"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// KnownUser is an existing user, for the checks that need one. The domain may be empty.
type KnownUser struct{ User, Domain string }

// backends returns the chains of all backends.
func (e *Env) backends(cfg *config.Config, s *Subject) []Chain {
	var out []Chain
	for _, b := range cfg.Backends {
		c := Chain{Hop: "backend." + b.String()}
		if b.Kind == config.KindUsers {
			c.Steps = e.users(b)
			out = append(out, c)
			continue
		}
		if b.Kind == config.KindAppPasswords {
			c.Steps = []Step{{Check: "accounts", Run: func(context.Context) []Outcome { return appPasswords(cfg, b) }},
				{Check: "key", Alone: true, Run: func(context.Context) []Outcome { return appKeys(b, s.Daemon) }},
				{Check: "scram", Run: func(context.Context) []Outcome { return keylessApps(cfg, b, s) }}}
			out = append(out, c)
			continue
		}
		r, err := e.newRoute(b.URL, b.CAFile)
		if err != nil {
			continue // the configuration does not allow such a url
		}
		w := &web{route: r, config: b}
		w.query, w.known = queries(cfg, b.BackendRef, s.Known)
		if b.Kind == config.KindOIDC {
			c.Steps = append(e.way(r, b), w.oidc()...)
			out = append(out, c)
			continue
		}
		first := map[string]func(context.Context) []Outcome{
			config.KindNextcloud: w.status, config.KindJSXC: w.forged, config.KindJSON: w.exists,
			config.KindHTTP: w.refuses, config.KindAuthHTTP: w.refuses,
		}[b.Kind]
		c.Steps = append(e.way(r, b), Step{Check: "http", Run: w.first(first)}, Step{Check: "clock", Run: w.clock, Alone: true})
		switch b.Kind {
		case config.KindNextcloud:
			c.Steps = append(c.Steps, Step{Check: "throttle", Run: w.throttle}, Step{Check: "rights", Run: w.rights})
		case config.KindJSXC:
			c.Steps = append(c.Steps, Step{Check: "signature", Run: w.signature}, Step{Check: "user", Run: w.user})
		case config.KindHTTP: // it is only asked about passwords
		case config.KindAuthHTTP:
			c.Steps = append(c.Steps, Step{Check: "user", Run: w.user})
		default:
			c.Steps = append(c.Steps, Step{Check: "shape", Run: w.shape}, Step{Check: "user", Run: w.user})
		}
		out = append(out, c)
	}
	return out
}

// way returns the checks below HTTP: of the server, or of the proxy in front of it.
func (e *Env) way(r *route, b config.Backend) []Step {
	proxy, err := backend.ParseProxy(b.Proxy.Reveal(), r.url)
	if err != nil {
		return []Step{{Check: "proxy", Run: func(context.Context) []Outcome {
			return fail("the environment names a proxy that postern cannot use", `write proxy = "http://HOST:PORT" in the backend's block`)
		}}}
	}
	if proxy == nil {
		return r.steps()
	}
	return (&route{env: e, url: proxy}).steps()[:2]
}

// proxies returns the chain of a proxy that the environment names and no backend uses.
func (e *Env) proxies(cfg *config.Config) Chain {
	return Chain{"proxy", []Step{{Check: "environment", Run: func(context.Context) []Outcome {
		var unused []string
		name := ""
		for _, b := range cfg.Backends {
			if b.URL == "" || !b.Proxy.Empty() || e.UnusedProxy == nil {
				continue
			}
			if found := e.UnusedProxy(b.URL); found != "" {
				name, unused = found, append(unused, "backend."+b.String())
			}
		}
		if name == "" {
			return nil
		}
		return warn(name+" is set, but not used by "+strings.Join(unused, ", "), `if this network needs the proxy, add proxy = "environment" to them, and set the variable for the service`)
	}}}}
}

// Registered is a registered domain with its backend.
type Registered struct {
	Backend config.Backend
	Domain  config.Domain
}

// maxRegistered is how many servers of registered domains are examined.
const maxRegistered = 20

// withRegistered returns the configuration with the backends of registered domains, one for each
// server, and what was found of them.
func (s *Subject) withRegistered() (*config.Config, Chain) {
	type server struct{ kind, url, secret, path string }
	all := *s.Config
	seen := map[server]bool{}
	for _, b := range s.Config.Backends { // their users files are examined already
		if b.Path != "" {
			seen[server{kind: b.Kind, path: b.Path}] = true
		}
	}
	files := len(seen)
	for _, r := range s.Registered {
		at := server{r.Backend.Kind, r.Backend.URL, r.Backend.Secret.Reveal(), r.Backend.Path}
		known := s.Known.Domain != "" && s.Known.Domain == r.Domain.Name // whose user is asked about
		if seen[at] && !known || r.Backend.URL+r.Backend.Path == "" {
			continue
		}
		if seen[at] = true; len(seen)-files <= maxRegistered || known {
			all.Backends = append(all.Backends[:len(all.Backends):len(all.Backends)], r.Backend)
			all.Domains = append(all.Domains[:len(all.Domains):len(all.Domains)], r.Domain)
		}
	}
	return &all, Chain{"registry", []Step{{Check: "domains", Run: func(context.Context) []Outcome {
		switch {
		case s.RegisteredErr != nil:
			return skip(fmt.Sprintf("the registered domains are not known: %v", s.RegisteredErr), "run doctor while the daemon runs")
		case s.Config.Registry.Declared && (s.Daemon == nil || s.Daemon.Info == nil):
			return skip("the registered domains are not known without the daemon", "run doctor while the daemon runs")
		case len(s.Registered) == 0:
			return nil
		case len(seen)-files > maxRegistered:
			return fine("%s on %d servers, of which %d are examined", plural(len(s.Registered), "registered domain"), len(seen)-files, maxRegistered)
		}
		return fine("%s on %s", plural(len(s.Registered), "registered domain"), plural(len(seen)-files, "server"))
	}}}}
}

// queries returns a question about a user that no server should have, and one about the known user
// for each domain of a backend.
func queries(cfg *config.Config, ref config.BackendRef, known KnownUser) (none backend.Query, all []backend.Query) {
	none = backend.Query{Op: auth.OpIsUser, User: noUser, Domain: "invalid"}
	for _, d := range cfg.Domains {
		for _, r := range d.Backends {
			if r != ref {
				continue
			}
			at := d.AuthDomains
			if len(at) == 0 && d.Name != "*" {
				at = []string{d.Name}
			}
			if len(at) == 0 && known.Domain != "" {
				at = []string{known.Domain}
			}
			if len(at) == 0 {
				continue
			}
			if none.Domain == "invalid" {
				none.Domain, none.Logins = at[0], d.Login
			}
			if known.User != "" && (known.Domain == "" || known.Domain == d.Name || d.Name == "*") {
				all = append(all, backend.Query{Op: auth.OpIsUser, User: known.User, Domain: at[0], Logins: d.Login, Groups: allow.New(d.Allow).Groups()})
			}
		}
	}
	return none, all
}

// users checks a users file.
func (e *Env) users(b config.Backend) []Step {
	return []Step{{Check: "file", Run: func(ctx context.Context) []Outcome {
		f, err := e.Stat(b.Path)
		if err == nil && f.Mode.Perm()&0o004 != 0 {
			return fail("every user of this machine can read the password hashes in "+b.Path, "chmod o-rwx "+b.Path)
		}
		if err == nil && f.Mode.Perm()&0o022 != 0 {
			return fail("others can change the passwords in "+b.Path, "chmod go-w "+b.Path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return skip(b.Path+" cannot be examined by this user", e.cure.doctor())
		}
		if err != nil {
			return warn(b.Path+" does not exist: there are no users yet", "add one: "+e.cure.run("user add alice@example.org"))
		}
		o, err := e.Connect(b, func(*backend.HTTPOptions) {})
		if err != nil {
			return fail(err.Error(), "correct the file, or restore it")
		}
		defer o.Close()
		r := o.Ask(ctx, backend.Query{Op: auth.OpIsUser, User: noUser, Domain: "invalid"})
		if r.Class != backend.Refused {
			return fail(fmt.Sprintf("the users file does not work: %v", r.Err), "correct the file, or restore it")
		}
		return fine("%s is readable", b.Path)
	}}, {Check: "lines", Run: func(context.Context) []Outcome { return e.usersLines(b.Path) }},
		{Check: "names", Run: func(context.Context) []Outcome { return twins(b) }},
		{Check: "scram", Run: func(context.Context) []Outcome { return keylessUsers(b) }}}
}

// keylessUsers counts the accounts of a users file that keep SCRAM from being offered.
func keylessUsers(b config.Backend) []Outcome {
	if b.ScramSeed == "" {
		return nil
	}
	seed, err := backend.ReadSeed(b.ScramSeed)
	if errors.Is(err, fs.ErrNotExist) {
		return warn("there is no seed of SCRAM yet, so no account has keys: SCRAM is not offered", "start the daemon; then users log in by PLAIN once, or get new passwords")
	}
	f, opened := backend.OpenUsersFile(b.Path, b.FoldCase)
	if err = errors.Join(err, opened); err != nil {
		return skip(err.Error(), "sudo -u postern postern doctor")
	}
	n, err := f.KeylessUsers("", seed)
	if err != nil || n == 0 {
		return fine("all accounts have SCRAM keys")
	}
	return warn(plural(n, "account")+" of "+b.Path+" without SCRAM keys: SCRAM is not offered in their domains",
		"let their users log in by PLAIN once, or set new passwords: postern user passwd USER@DOMAIN")
}

// usersLines checks that each line of a users file can be used.
func (e *Env) usersLines(path string) []Outcome {
	data, err := e.ReadFile(path)
	if err != nil {
		return nil // the file is not there, or larger than doctor reads
	}
	broken := backend.BrokenLines(data)
	if len(broken) == 0 {
		return fine("all lines have a bcrypt hash")
	}
	text := broken[0].Error()
	if len(broken) > 1 {
		text = fmt.Sprintf("%s, and %d more lines like it", text, len(broken)-1)
	}
	return fail(path+": "+text+": their users cannot log in", "set a new password: postern user passwd USER@DOMAIN, or correct the lines; each is user@domain:HASH, with a hash of bcrypt")
}

// twins names the accounts of a users file that differ by letter case only.
func twins(b config.Backend) []Outcome {
	f, err := backend.OpenUsersFile(b.Path, b.FoldCase)
	if err != nil || !b.FoldCase {
		return nil
	}
	list, err := f.Twins()
	if err != nil || len(list) == 0 {
		return nil
	}
	var names []string
	for _, id := range list[:min(len(list), 10)] {
		names = append(names, id.String())
	}
	return warn(fmt.Sprintf("%s differ by letter case only, so each is reached by its exact spelling alone: %s",
		plural(len(list), "account"), strings.Join(names, ", ")), "remove all but one of each: postern user remove NAME")
}
