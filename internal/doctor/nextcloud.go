package doctor

import (
	"context"
	"errors"
	"fmt"

	"postern/internal/backend"
)

// status asks Nextcloud what it says of itself.
func (w *web) status(ctx context.Context) []Outcome {
	p, ok := w.backend.(backend.Prober)
	if !ok {
		return fail("the backend cannot be examined", "report this as a fault of postern")
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
		return fail("this is no Nextcloud: "+err.Error(), "url must be where Nextcloud starts, without index.php")
	case !s.Installed:
		return fail("Nextcloud is not installed yet", "finish its installation in the browser")
	case s.Maintenance:
		return fail("Nextcloud is in maintenance mode", "end it there: occ maintenance:mode --off")
	case s.NeedsUpgrade:
		return fail("Nextcloud waits for its upgrade", "do it there: occ upgrade")
	}
	return fine("Nextcloud %s", s.Version)
}

// throttle asks how Nextcloud treats logins from our address.
func (w *web) throttle(ctx context.Context) []Outcome {
	p, ok := w.backend.(backend.Prober)
	if !ok {
		return nil
	}
	s, err := p.Throttle(ctx)
	const exempt = "exempt postern's address there: administration settings, Security, Brute-force IP whitelist"
	switch {
	case errors.Is(err, backend.ErrNoThrottle):
		return skip("the server does not tell how it slows down logins", "")
	case err != nil:
		if bad := w.answer(); bad != nil {
			return bad
		}
		return fail("the API does not answer: "+err.Error(), "look into Nextcloud's log")
	case s.Delay > w.config.MaxDelay:
		return fail(fmt.Sprintf("after failed logins the server slows every login from postern's address down by %s: postern leaves it alone", delayed(s.Delay)),
			exempt+"; to forget the failures: occ security:bruteforce:reset ADDRESS")
	case s.Delay > 0:
		return warn(fmt.Sprintf("after failed logins the server slows every login from postern's address down by %s", delayed(s.Delay)), exempt)
	case s.ExemptKnown && !s.Exempt:
		return warn("the server counts all failed logins against postern's one address: a few old passwords in phones will block everybody", exempt)
	case s.Exempt:
		return fine("postern's address is exempt: failed logins are not counted there")
	}
	return fine("logins from postern's address are not slowed down")
}

// rights proves the service account.
func (w *web) rights(ctx context.Context) (out []Outcome) {
	p, ok := w.backend.(backend.Prober)
	if !ok {
		return nil
	}
	if w.config.AdminUser == "" {
		return warn("there is no service account: who has never logged in cannot be told from who does not exist, and there are no rosters",
			"mail needs one: set admin_user and admin_password (an app password)")
	}
	if err := p.Rights(ctx, ""); err != nil {
		return fail(err.Error(), "see the administration of users in Nextcloud")
	}
	if len(w.known) == 0 {
		return fine("the service account may look up users; --as USER proves it on one")
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
			out = fail(fmt.Sprintf("asked for %s: %v", name, err), "check that the user is there, that the service account is its (group) administrator, and login of the domain")
		}
	}
	return out
}
