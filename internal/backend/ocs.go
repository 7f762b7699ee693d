package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"postern/internal/jsonobject"
)

// Codes of the OCS API in meta.statuscode that are not HTTP statuses.
const (
	ocsNoPassword   = 112 // Nextcloud's user backend cannot set passwords
	ocsServerError  = 996
	ocsUnauthorised = 997
)

// ocs is an answer of Nextcloud's OCS API, version 2.
type ocs struct {
	status   int  // of HTTP
	valid    bool // the body is the API's own: an object ocs with meta and data
	code     int  // meta.statuscode
	message  string
	before29 bool // the server is known to be older than Nextcloud 29
	data     json.RawMessage
	response response
}

// parseOCS reads an answer. One that is not the API's own is not valid.
func parseOCS(r response) ocs {
	a := ocs{status: r.status, response: r}
	document, err := jsonobject.Split(r.body)
	if err != nil {
		return a
	}
	envelope, err := jsonobject.Split(document["ocs"])
	if err != nil {
		return a
	}
	meta, err := jsonobject.Split(envelope["meta"])
	if err != nil || json.Unmarshal(meta["statuscode"], &a.code) != nil || a.code == 0 {
		return a
	}
	_ = json.Unmarshal(meta["message"], &a.message) // null, or absent
	a.data, a.valid = envelope["data"], true
	return a
}

// ok reports whether the API says that the call succeeded.
func (a *ocs) ok() bool { return a.status == http.StatusOK && a.valid && a.code == http.StatusOK }

// refused reports whether the API itself says that the login is wrong. No other answer does.
func (a *ocs) refused() bool {
	return a.valid && a.code == ocsUnauthorised && (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden)
}

// exception reports whether a call ended with an exception in the server. Before version 29 that is
// also how the server throttles.
func (a *ocs) exception() bool {
	return a.status == http.StatusInternalServerError && a.valid && a.code == ocsServerError
}

// fault classifies answers other than the API's own. For those, ok is true: success, or 400, 401,
// 403 or 404, which the caller interprets.
func (a *ocs) fault(secret string) (r Result, ok bool) {
	status := a.status
	switch {
	case a.ok():
		return r, true
	case status == http.StatusServiceUnavailable && a.response.maintenance:
		return Result{Class: Outage, Err: errMaintenance}, false
	case a.response.truncated && status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		return outage("HTTP %d, but the answer is incomplete", status), false
	case a.valid && (status == http.StatusUnauthorized || status == http.StatusForbidden ||
		status == http.StatusNotFound || status == http.StatusBadRequest):
		return r, true
	case status >= 300 && status < 400:
		return redirect(a.response, secret), false
	case status == http.StatusTooManyRequests, a.exception() && a.before29:
		return Result{Class: Throttled, Err: fmt.Errorf("HTTP %d: %s: %s in its brute-force settings", status, tooManyFailures, Exempting(a.response.from))}, false
	case a.exception():
		return outage("HTTP 500 (code 996): the server fails for this account; its log has the exception"), false
	}
	return a.invalid(), false
}

var errMaintenance = errors.New("the server is in maintenance mode")

// tooManyFailures is the reason for 429, and for 500 with code 996 before version 29.
const tooManyFailures = "the server accepts no logins from postern's address for up to 30 minutes, after too many failed ones"

// invalid classifies an answer that is not the API's own.
func (a *ocs) invalid() Result {
	switch a.status {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden:
		return outage("HTTP %d with %s, not from Nextcloud's API: something in front of it answers "+
			"(a proxy, a firewall, single sign-on, which must not cover /ocs/), or url is not the base URL of Nextcloud", a.status, a.response.kind())
	case http.StatusNotFound:
		return misconfigured("HTTP 404: there is no Nextcloud at url: it must be the base URL of Nextcloud, without index.php")
	case http.StatusBadRequest:
		return misconfigured("HTTP 400: the server rejects the request: add the host of url to its trusted_domains")
	case http.StatusPreconditionFailed:
		return misconfigured("HTTP 412: the header OCS-APIRequest is missing: a proxy in between drops it")
	}
	return foreign(Query{}, a.response)
}
