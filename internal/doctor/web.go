package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

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
			w.last = backend.Observation{Status: seen.Status, Header: seen.Header.Clone(), Body: bytes.Clone(seen.Body)}
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

// clock compares this machine's clock with the Date header of the server, which has whole seconds.
func (w *web) clock(context.Context) []Outcome {
	seen, at := w.seen()
	if seen.Status == 0 {
		return skip("not checked, because the server did not answer", "")
	}
	date, err := http.ParseTime(seen.Header.Get("Date"))
	if err != nil {
		return skip("the server does not send its time", "")
	}
	skew := at.Sub(date)
	text := fmt.Sprintf("this machine's clock is %v ahead of the server's", skew.Round(time.Second))
	if skew < 0 {
		text = fmt.Sprintf("this machine's clock is %v behind the server's", -skew.Round(time.Second))
	}
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
		return fail(text+": the server limits postern", "exempt postern's address there")
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
		return fail(text+": the server does not take the request", "correct url")
	}
	return fail(text+", but the answer is not JSON", "correct url: another program may be answering there")
}

// silent is the outcome of a request without a response.
func silent(err error) []Outcome {
	return fail("no HTTP response: "+err.Error(), "see the web server's log for why it does not answer in time")
}
