package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// noUser is a user, and a group, that no server should have.
const noUser = "postern-doctor-nobody"

// web is a backend over HTTP with what its checks have seen.
type web struct {
	*route
	config  config.Backend
	query   backend.Query // about a user that does not exist
	known   []backend.Query
	backend backend.Backend

	mu   sync.Mutex
	last backend.Observation // the latest response, copied
	at   time.Time
}

// Clock tolerances: half a TOTP window, and the limit of tokens with an expiry.
const (
	skewSoon = 30 * time.Second
	skewBad  = 5 * time.Minute
)

// open makes the backend, with a hook that records its responses.
func (w *web) open() error {
	b, err := w.env.Connect(w.config, func(o *backend.HTTPOptions) {
		o.Dial = w.env.Dial
		o.Timeout = min(o.Timeout, stepTimeout)
		o.Observe = func(seen backend.Observation) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.last = backend.Observation{Status: seen.Status, Header: seen.Header.Clone(), Body: bytes.Clone(seen.Body), From: seen.From}
			w.at = w.env.Now()
		}
	})
	w.backend = b
	return err
}

func (w *web) seen() (backend.Observation, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.at
}

// skew is how far this machine's clock is ahead of the server's, by its header Date, which has whole seconds. If that
// is not known, why says so.
func (w *web) skew() (ahead time.Duration, why []Outcome) {
	seen, at := w.seen()
	if seen.Status == 0 {
		return 0, skip("not checked, because the server did not answer", "")
	}
	date, err := http.ParseTime(seen.Header.Get("Date"))
	if err != nil {
		return 0, skip("the server does not send its time", "")
	}
	return at.Sub(date), nil
}

// ahead describes a difference of clocks.
func ahead(skew time.Duration) string {
	if skew < 0 {
		return fmt.Sprintf("this machine's clock is %v behind the server's", -skew.Round(time.Second))
	}
	return fmt.Sprintf("this machine's clock is %v ahead of the server's", skew.Round(time.Second))
}

// clock compares this machine's clock with the server's.
func (w *web) clock(context.Context) []Outcome {
	skew, unknown := w.skew()
	if unknown != nil {
		return unknown
	}
	text := ahead(skew)
	const cure = "set both clocks by NTP: timedatectl set-ntp true"
	switch skew = skew.Abs(); {
	case skew > skewBad:
		return fail(text+": tokens are refused, or live too long", cure)
	case skew > skewSoon:
		return warn(text+": single-use tokens are refused", cure)
	}
	return fine("it differs from the server's by less than %v", skewSoon)
}

// answer checks the latest response as far as HTTP goes. It returns nil if there is an answer of
// the API to check.
func (w *web) answer() []Outcome {
	seen, _ := w.seen()
	text := fmt.Sprintf("HTTP %d", seen.Status)
	switch status := seen.Status; {
	case status >= 300 && status < 400:
		return w.redirect(seen)
	case status == http.StatusNotFound && w.config.Kind == config.KindJSXC:
		return fail(text+": the server has no JSXC API at url", `the app does not run on Nextcloud 24 and newer: use backend "nextcloud"; on older versions enable the app and check url`)
	case status == http.StatusNotFound:
		return fail(text+": there is no such API at url", "correct url")
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fail(text+": something in front of the API refuses postern", "exempt the API from the web server's own login and access rules")
	case status == http.StatusTooManyRequests:
		return fail(text+": the server limits postern", backend.Exempting(seen.From))
	case status == http.StatusServiceUnavailable && seen.Header.Get("X-Nextcloud-Maintenance-Mode") == "1":
		return fail("the server is in maintenance mode", "end it there: occ maintenance:mode --off")
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return fail(text+": the web server answers, but not the application behind it", "start the application (php-fpm?) and see its log")
	}
	return w.body(seen)
}

// redirect names only the host of the new location: the rest may repeat what was sent.
func (w *web) redirect(seen backend.Observation) []Outcome {
	text := fmt.Sprintf("HTTP %d: the server redirects postern", seen.Status)
	to, err := url.Parse(seen.Header.Get("Location"))
	if err == nil && to.Scheme == "https" && w.url.Scheme == "http" {
		return fail(text+", to https", "write https in url")
	}
	if err == nil && to.Hostname() != "" && to.Hostname() != w.url.Hostname() && len(to.Host) < 256 {
		text += fmt.Sprintf(", to %q", to.Host)
	}
	return fail(text, "put the final address into url: redirects are not followed, because requests hold passwords")
}

// body checks that the body is a JSON object.
func (w *web) body(seen backend.Observation) []Outcome {
	body := bytes.TrimSpace(seen.Body)
	text := fmt.Sprintf("HTTP %d", seen.Status)
	if json.Valid(body) && bytes.HasPrefix(body, []byte("{")) {
		return nil
	}
	if i := bytes.IndexByte(body, '{'); i > 0 && json.Valid(body[i:]) {
		return fail(text+", with other text before the JSON", "set display_errors = Off in the server's php.ini, and correct the errors in its log")
	}
	switch {
	case bytes.HasPrefix(body, []byte("<")):
		return fail(text+", with an HTML page instead of JSON", "correct url, and let no login or maintenance page cover the API")
	case seen.Status >= 500:
		return fail(text+": the application fails", "see its log")
	case seen.Status >= 400:
		return fail(text+": the server rejects the request", "correct url")
	}
	return fail(text+", but the answer is not JSON", "correct url: another program may be answering there")
}

// silent is the outcome of a request without a response.
func silent(err error) []Outcome {
	return fail("no HTTP response: "+err.Error(), "see the web server's log for why it does not answer in time")
}

// first opens the backend before its first check.
func (w *web) first(check func(context.Context) []Outcome) func(context.Context) []Outcome {
	return func(ctx context.Context) []Outcome {
		if err := w.open(); err != nil {
			return fail(err.Error(), "correct the backend's block")
		}
		return check(ctx)
	}
}

// replied reports whether the server has sent a response.
func (w *web) replied() bool {
	seen, _ := w.seen()
	return seen.Status != 0
}

// forged asks the JSXC app with a wrong signature, which tests HTTP without any effect.
func (w *web) forged(ctx context.Context) []Outcome {
	signed, ok := w.backend.(backend.Signed)
	if !ok {
		return fail("the backend does not sign its requests", "report this as a bug of postern")
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
		return fine("the JSXC API answers and refuses a wrong signature")
	case r.Class == backend.Accepted, r.Class == backend.Refused:
		return fail("the server accepts any client: it took a wrong signature", "keep it off the network, and find out what answers at url instead of the JSXC app")
	}
	return fail("unexpected answer of the JSXC API to a wrong signature: "+r.Err.Error(), "correct url, and the API secret in the JSXC app's administration page")
}

// signature asks with the right signature.
func (w *web) signature(ctx context.Context) []Outcome {
	r := w.backend.Ask(ctx, w.query)
	switch {
	case errors.Is(r.Err, backend.ErrSignature):
		return fail("the server refuses the signature: it has another secret", "copy the API secret from the JSXC app's administration page into secret")
	case r.Class == backend.Accepted:
		return warn("the server says that a user of an impossible name exists", "mail to any name would be accepted: check what answers at url")
	case r.Class == backend.Refused:
		return fine("the signature is accepted and the answer is valid")
	}
	if bad := w.answer(); bad != nil {
		return bad
	}
	return fail("the answer is not valid: "+r.Err.Error(), "see the server's log, and update its JSXC app")
}

// exists sends the first request to a JSON API.
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

// refuses asks an endpoint about a password of a user that cannot exist: only a no shows that it checks
// passwords, and that its no is understood.
func (w *web) refuses(ctx context.Context) []Outcome {
	q := w.query
	q.Op, q.Secret = auth.OpAuth, auth.NewSecret("no password")
	r := w.backend.Ask(ctx, q)
	switch {
	case !w.replied():
		return silent(r.Err)
	case r.Class == backend.Refused:
		return fine("the endpoint refuses a user of an impossible name")
	case r.Class == backend.Accepted:
		return fail("the endpoint takes a user of an impossible name, with any password", "correct url: what answers there checks no passwords")
	}
	return fail("the answer about a user of an impossible name is no refusal: "+r.Err.Error(), "correct url; what a refusal looks like is in the page of the backend: postern help http")
}

// shape checks the form of a JSON API's answer.
func (w *web) shape(ctx context.Context) []Outcome {
	r := w.backend.Ask(ctx, w.query)
	switch r.Class {
	case backend.Refused:
		return fine("it answers as it should, and does not have a user of an impossible name")
	case backend.Accepted:
		return warn("the application says that a user of an impossible name exists", "let /exists answer success false for unknown users: mail to any name would be accepted")
	}
	return fail("the answer has the wrong form: "+r.Err.Error(), `let /exists answer HTTP 200 with {"success": true} or {"success": false}`)
}

// user asks for the known user.
func (w *web) user(ctx context.Context) (out []Outcome) {
	for _, q := range w.known {
		user := q.User + "@" + q.Domain
		switch r := w.backend.Ask(ctx, q); r.Class {
		case backend.Accepted:
			out = append(out, fine("the server knows %s", user)...)
		case backend.Refused:
			out = append(out, warn("the server does not know "+user, "check the name, and auth_domain of the domain")...)
		default:
			out = append(out, fail(fmt.Sprintf("the question for %s was not answered: %v", user, r.Err), "see the server's log")...)
		}
	}
	return out
}

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
	p := w.backend.(backend.Prober) // or status has failed
	s, err := p.Throttle(ctx)
	seen, _ := w.seen()
	exempt := backend.Exempting(seen.From) + ": administration settings, Security, Brute-force IP whitelist"
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
			exempt+"; to reset the failures: "+backend.ResetFailures(seen.From))
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
	p := w.backend.(backend.Prober) // or status has failed
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

// delayed formats a delay of logins.
func delayed(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }
