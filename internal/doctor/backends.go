package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// KnownUser is an existing user, for the checks that need one. The domain may be empty.
type KnownUser struct{ User, Domain string }

// backends returns the chains of all backends.
func (e *Env) backends(cfg *config.Config, known KnownUser) []Chain {
	var out []Chain
	for _, b := range cfg.Backends {
		c := Chain{Hop: "backend." + b.String()}
		if b.Kind == config.KindUsers {
			c.Steps = e.users(b)
			out = append(out, c)
			continue
		}
		r, err := e.newRoute(b.URL, b.CAFile)
		if err != nil {
			continue // the configuration does not allow such a url
		}
		w := &web{route: r, config: b}
		w.query, w.known = queries(cfg, b.BackendRef, known)
		first := map[string]func(context.Context) []Outcome{
			config.KindNextcloud: w.status, config.KindJSXC: w.forged, config.KindJSON: w.exists,
		}[b.Kind]
		c.Steps = append(r.steps(), Step{Check: "http", Run: w.first(first)}, Step{Check: "clock", Run: w.clock, Alone: true})
		switch b.Kind {
		case config.KindNextcloud:
			c.Steps = append(c.Steps, Step{Check: "throttle", Run: w.throttle}, Step{Check: "rights", Run: w.rights})
		case config.KindJSXC:
			c.Steps = append(c.Steps, Step{Check: "signature", Run: w.signature}, Step{Check: "user", Run: w.user})
		default:
			c.Steps = append(c.Steps, Step{Check: "shape", Run: w.shape}, Step{Check: "user", Run: w.user})
		}
		out = append(out, c)
	}
	return out
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
				all = append(all, backend.Query{Op: auth.OpIsUser, User: known.User, Domain: at[0], Logins: d.Login})
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
			return skip(b.Path+" cannot be examined by this user", "sudo -u postern postern doctor")
		}
		if err != nil {
			return warn(b.Path+" does not exist: there are no users yet", "add one: postern user add alice@example.org")
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
	}}}
}
