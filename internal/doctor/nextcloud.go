package doctor

import (
	"context"
	"errors"
	"fmt"

	"postern/internal/backend"
)

// status checks Nextcloud's status page.
func (w *web) status(ctx context.Context) []Outcome {
	p, ok := w.backend.(backend.Prober)
	if !ok {
		return fail("the backend cannot be examined", "report this as a bug of postern")
	}
	s, err := p.Status(ctx)
	if err != nil && !w.replied() {
		return silent(err)
	}
	if bad := w.answer(); bad != nil {
		return bad
	}
	switch {
	case err != nil:
		return fail("this is not a Nextcloud: "+err.Error(), "url must be the base URL of Nextcloud, without index.php")
	case !s.Installed:
		return fail("Nextcloud is not installed yet", "finish its installation in the browser")
	case s.Maintenance:
		return fail("Nextcloud is in maintenance mode", "end it there: occ maintenance:mode --off")
	case s.NeedsUpgrade:
		return fail("Nextcloud needs an upgrade", "do it there: occ upgrade")
	}
	return fine("Nextcloud %s", s.Version)
}

// throttle checks the delay of logins from postern's address.
func (w *web) throttle(ctx context.Context) []Outcome {
	p, ok := w.backend.(backend.Prober)
	if !ok {
		return nil
	}
	s, err := p.Throttle(ctx)
	const exempt = "exempt postern's address there: administration settings, Security, Brute-force IP whitelist"
	switch {
	case errors.Is(err, backend.ErrNoThrottle):
		return skip("the server does not say how it delays logins", "")
	case err != nil:
		if bad := w.answer(); bad != nil {
			return bad
		}
		return fail("the API does not answer: "+err.Error(), "see Nextcloud's log")
	case s.Delay > w.config.MaxDelay:
		return fail(fmt.Sprintf("after failed logins the server delays every login from postern's address by %s: postern sends no more", delayed(s.Delay)),
			exempt+"; to reset the failures: occ security:bruteforce:reset ADDRESS")
	case s.Delay > 0:
		return warn(fmt.Sprintf("after failed logins the server delays every login from postern's address by %s", delayed(s.Delay)), exempt)
	case s.ExemptKnown && !s.Exempt:
		return warn("the server counts all failed logins against postern's one address: a few old passwords in phones will block all users", exempt)
	case s.Exempt:
		return fine("postern's address is exempt: failed logins are not counted there")
	}
	return fine("logins from postern's address are not delayed")
}

// rights checks the rights of the service account.
func (w *web) rights(ctx context.Context) (out []Outcome) {
	p, ok := w.backend.(backend.Prober)
	if !ok {
		return nil
	}
	if w.config.AdminUser == "" {
		return warn("there is no service account: users cannot be looked up, and there are no rosters",
			"mail needs one: set admin_user and admin_password (an app password)")
	}
	if err := p.Rights(ctx, ""); err != nil {
		return fail(err.Error(), "see the user administration in Nextcloud")
	}
	if len(w.known) == 0 {
		return fine("the service account may look up users; test it on one with --as USER")
	}
	tried := map[string]bool{}
	for _, q := range w.known {
		for _, name := range q.LoginNames() {
			if tried[name] {
				continue
			}
			tried[name] = true
			err := p.Rights(ctx, name)
			if err == nil {
				return fine("the service account finds %s", name)
			}
			out = fail(fmt.Sprintf("asked for %s: %v", name, err), "check that the user exists, that the service account is its (group) administrator, and login of the domain")
		}
	}
	return out
}
