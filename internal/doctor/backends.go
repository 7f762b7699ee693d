package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// KnownUser is a user who exists, for the checks that need one; the domain may be empty.
type KnownUser struct{ User, Domain string }

// backends are the chains of the backends.
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
			continue // no configuration takes such a url
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

// queries makes the questions about nobody, and about the known user under each of the names
// that the domains of a backend have there.
func queries(cfg *config.Config, ref config.BackendRef, known KnownUser) (none backend.Query, all []backend.Query) {
	none = backend.Query{Op: auth.OpIsUser, User: nobody, Domain: "invalid"}
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

// first opens the backend for the first question.
func (w *web) first(ask func(context.Context) []Outcome) func(context.Context) []Outcome {
	return func(ctx context.Context) []Outcome {
		if err := w.open(); err != nil {
			return fail(err.Error(), "correct the backend's block")
		}
		return ask(ctx)
	}
}

// replied reports whether the server has answered at all.
func (w *web) replied() bool {
	seen, _ := w.seen()
	return seen.Status != 0
}

// forged asks the JSXC app with a wrong signature, which shows all of HTTP and harms nobody.
func (w *web) forged(ctx context.Context) []Outcome {
	signed, ok := w.backend.(backend.Signed)
	if !ok {
		return fail("the backend signs nothing", "report this as a fault of postern")
	}
	r := signed.Forged(ctx, w.query)
	if !w.replied() {
		return silent(r.Err)
	}
	if bad := w.answer(); bad != nil {
		return bad
	}
	switch {
	case errors.Is(r.Err, backend.ErrSignature):
		return fine("the JSXC API answers, and refuses a wrong signature")
	case r.Class == backend.Accepted, r.Class == backend.Refused:
		return fail("the server answers whoever asks: it took a wrong signature", "do not let it face a network; find out what answers at url in the place of the JSXC app")
	}
	return fail("the JSXC API answered a wrong signature otherwise than it should: "+r.Err.Error(), "correct url, and the API secret in the JSXC app's administration page")
}

// signature asks with the right one.
func (w *web) signature(ctx context.Context) []Outcome {
	r := w.backend.Ask(ctx, w.query)
	switch {
	case errors.Is(r.Err, backend.ErrSignature):
		return fail("the server refuses our signature: secret is not the one it has", "copy the API secret from the JSXC app's administration page into the file that secret names")
	case r.Class == backend.Accepted:
		return warn("the server says that a user of an impossible name exists", "mail to all names would be taken: see what answers at url")
	case r.Class == backend.Refused:
		return fine("the right signature is accepted, and the answer is in order")
	}
	if bad := w.answer(); bad != nil {
		return bad
	}
	return fail("the answer cannot be read: "+r.Err.Error(), "look into the server's log, and update its JSXC app")
}

// exists asks a JSON API.
func (w *web) exists(ctx context.Context) []Outcome {
	r := w.backend.Ask(ctx, w.query)
	if !w.replied() {
		return silent(r.Err)
	}
	if bad := w.answer(); bad != nil {
		return bad
	}
	return fine("the application answers")
}

// shape judges the answer of a JSON API.
func (w *web) shape(ctx context.Context) []Outcome {
	r := w.backend.Ask(ctx, w.query)
	switch r.Class {
	case backend.Refused:
		return fine("it answers as it should, and does not know a user of an impossible name")
	case backend.Accepted:
		return warn("the application says that a user of an impossible name exists", "let /exists answer success false for users whom it does not have: mail to all names would be taken")
	}
	return fail("the answer is not as it should be: "+r.Err.Error(), `let /exists answer HTTP 200 with {"success": true} or {"success": false}`)
}

// user asks for somebody who exists.
func (w *web) user(ctx context.Context) (out []Outcome) {
	for _, q := range w.known {
		who := q.User + "@" + q.Domain
		switch r := w.backend.Ask(ctx, q); r.Class {
		case backend.Accepted:
			out = append(out, fine("the server knows %s", who)...)
		case backend.Refused:
			out = append(out, warn("the server does not know "+who, "check the name, and auth_domain of the domain")...)
		default:
			out = append(out, fail(fmt.Sprintf("the question for %s was not answered: %v", who, r.Err), "look into the server's log")...)
		}
	}
	return out
}

// users looks at a users file.
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
			return skip(b.Path+" cannot be looked at by this user", "sudo -u postern postern doctor")
		}
		if err != nil {
			return warn(b.Path+" is not there: it has no users yet", "add one: postern user add alice@example.org")
		}
		o, err := e.Connect(b, func(*backend.HTTPOptions) {})
		if err != nil {
			return fail(err.Error(), "correct the file, or restore it")
		}
		defer o.Close()
		r := o.Ask(ctx, backend.Query{Op: auth.OpIsUser, User: nobody, Domain: "invalid"})
		if r.Class != backend.Refused {
			return fail(fmt.Sprintf("the users file cannot be asked: %v", r.Err), "correct the file, or restore it")
		}
		return fine("%s can be read", b.Path)
	}}}
}

// delayed writes how long Nextcloud slows logins down.
func delayed(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }
