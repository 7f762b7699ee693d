package backend

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// The codes of the OCS API in meta.statuscode that are no HTTP status.
const (
	ocsServerError  = 996
	ocsUnauthorised = 997
	ocsNotFound     = 998 // no such route, or no right to see
)

// ocs is an answer of Nextcloud's OCS API, version 2 (FIELD 3.2).
type ocs struct {
	status  int  // of HTTP
	spoken  bool // the body is the API's own: an object ocs with meta and data
	code    int  // meta.statuscode
	message string
	data    json.RawMessage
	reply   reply
}

// basic is the value of an Authorization header.
func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// ask sends a request to the API; path starts behind /ocs/v2.php/ and may have a query.
// authorization may be empty. An error means that there is no answer that is whole.
func (n *nextcloud) ask(ctx context.Context, method, path, authorization string, form []param) (ocs, error) {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	q := call{method: method, target: n.base + "/ocs/v2.php/" + path + separator + "format=json",
		header: []field{{"Accept", "application/json"}, {"OCS-APIRequest", "true"}}}
	if authorization != "" {
		q.header = append(q.header, field{"Authorization", authorization})
	}
	if form != nil {
		q.header = append(q.header, field{"Content-Type", "application/x-www-form-urlencoded"})
		q.body = encodeForm(form)
	}
	r, err := n.client.do(ctx, q)
	if err != nil {
		return ocs{}, err
	}
	return parseOCS(r), nil
}

// parseOCS reads an answer. One that is not the API's own has spoken false.
func parseOCS(r reply) ocs {
	a := ocs{status: r.status, reply: r}
	document, err := object(r.body)
	if err != nil {
		return a
	}
	envelope, err := object(document["ocs"])
	if err != nil {
		return a
	}
	meta, err := object(envelope["meta"])
	if err != nil || json.Unmarshal(meta["statuscode"], &a.code) != nil || a.code == 0 {
		return a
	}
	_ = json.Unmarshal(meta["message"], &a.message) // null, or absent
	a.data, a.spoken = envelope["data"], true
	return a
}

// html reports whether the body is a page for people.
func (a *ocs) html() bool { return bytes.HasPrefix(bytes.TrimSpace(a.reply.body), []byte("<")) }

// fine reports whether the API says that all went well.
func (a *ocs) fine() bool { return a.status == http.StatusOK && a.spoken && a.code == http.StatusOK }

// denied reports whether the API itself refuses who asks.
func (a *ocs) denied() bool {
	return a.spoken && (a.status == http.StatusUnauthorized && (a.code == ocsUnauthorised || a.code == a.status) ||
		a.status == http.StatusForbidden)
}

// fault gives every answer that is not the API's own word its meaning. ok is true for those
// that are: all went well, or 400, 401, 403 or 404, whose meaning is the caller's.
func (a *ocs) fault(secret string) (r Result, ok bool) {
	status := a.status
	switch {
	case a.fine():
		return r, true
	case status == http.StatusServiceUnavailable && a.reply.maintenance:
		return outage("the server is in maintenance mode"), false
	case a.reply.cut && status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		return outage(fmt.Sprintf("HTTP %d, but the answer broke off", status)), false
	case a.spoken && (status == http.StatusUnauthorized || status == http.StatusForbidden ||
		status == http.StatusNotFound || status == http.StatusBadRequest):
		return r, true
	case status >= 300 && status < 400:
		return Result{Class: Misconfigured, Err: redirectError(status, a.reply.location, secret)}, false
	case status == http.StatusTooManyRequests, status == http.StatusInternalServerError && a.spoken && a.code == ocsServerError:
		return Result{Class: Throttled, Err: fmt.Errorf("HTTP %d: %w", status, errTooManyFailures)}, false
	}
	return a.unspoken(), false
}

// errTooManyFailures is why Nextcloud answers 429, and 500 with 996 before version 29.
var errTooManyFailures = errors.New("the server takes no logins from postern's address for up to 30 minutes, after too many failed ones; " +
	"exempt the address there (brute-force settings)")

// unspoken explains an answer without the API's envelope.
func (a *ocs) unspoken() Result {
	text := fmt.Sprintf("HTTP %d: ", a.status)
	switch a.status {
	case http.StatusOK:
		if a.html() {
			return misconfigured("HTTP 200 with a page for people instead of the API: url must be where Nextcloud starts, " +
				"and no single sign-on may stand before /ocs/")
		}
		return outage("HTTP 200, but the answer is not the API's")
	case http.StatusUnauthorized, http.StatusForbidden:
		return misconfigured(text + "not from Nextcloud itself: something in front of it keeps postern from /ocs/v2.php")
	case http.StatusNotFound:
		return misconfigured(text + "there is no Nextcloud at url: it must be where Nextcloud starts, without index.php")
	case http.StatusBadRequest:
		return misconfigured(text + "the server does not take the request: add the host of url to its trusted_domains")
	case http.StatusPreconditionFailed:
		return misconfigured(text + "the header OCS-APIRequest is missing: a proxy in between drops it")
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return outage(fmt.Sprintf("HTTP %d", a.status))
	}
	if a.status > 400 && a.status < 500 {
		return misconfigured(text + "the server does not take the request; check url")
	}
	return outage(fmt.Sprintf("HTTP %d", a.status))
}

// outage is a Result that time may mend.
func outage(why string) Result { return Result{Class: Outage, Err: errors.New(why)} }

// texts reads a list as PHP writes it: an array that lost its order becomes an object, and a
// name of digits a number.
func texts(raw json.RawMessage) ([]string, bool) {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		fields, err := object(raw)
		if err != nil {
			return nil, false
		}
		for _, item := range fields {
			items = append(items, item)
		}
	} else if items == nil { // null is no list
		return nil, false
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		s, ok := text(item)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// text reads a name, which PHP may have made a number. The empty text is none.
func text(raw json.RawMessage) (string, bool) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, s != ""
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String(), number != ""
	}
	return "", false
}
