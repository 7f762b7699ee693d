package backend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"postern/internal/jsonobject"
)

// misconfigured is a Result that only an administrator can correct.
func misconfigured(cure string) Result {
	return Result{Class: Misconfigured, Err: errors.New(cure)}
}

// outage is a Result that may be another one later. The server was reached, so the cause may lie in
// the account.
func outage(format string, args ...any) Result {
	return Result{Class: Outage, OneAccount: true, Err: fmt.Errorf(format, args...)}
}

// unanswered is the Result of a request without a response.
func unanswered(err error) Result {
	return Result{Class: Outage, OneAccount: !errors.As(err, new(unreachedError)), Err: err}
}

// foreign classifies a response that is not the API's own, as the package comment lists them.
func foreign(q Query, r response) Result {
	switch status := r.status; {
	case status == http.StatusNotFound:
		return misconfigured("HTTP 404: there is no such API at url; check it, and that the server's app is enabled")
	case status == http.StatusTooManyRequests:
		return Result{Class: Throttled, OneAccount: true, Err: errors.New("HTTP 429: the server limits postern: " + Exempting(r.from))}
	case status >= 300 && status < 400:
		return redirect(r, q.Secret.Reveal())
	}
	return outage("HTTP %d with %s instead of the API's JSON: the application failed, or something in front of it answered "+
		"(a proxy, a firewall, a login or maintenance page)", r.status, r.kind())
}

// kind names what a response holds, by its type alone: a page may repeat what was sent.
func (r *response) kind() string {
	body := bytes.TrimSpace(r.body)
	switch {
	case r.truncated:
		return "an incomplete page"
	case len(body) == 0:
		return "no page"
	case bytes.HasPrefix(body, []byte("<?xml")) && !bytes.Contains(bytes.ToLower(body), []byte("<html")):
		return "an XML document"
	case body[0] == '<', strings.HasPrefix(r.media, "text/html"):
		return "an HTML page"
	case json.Valid(body):
		return "JSON of another form"
	case strings.HasPrefix(r.media, "text/plain"):
		return "plain text"
	}
	return "a page of another type"
}

// texts reads a list as PHP writes it: an array with gaps in its keys becomes an object, and a
// name of digits a number.
func texts(raw json.RawMessage) ([]string, bool) {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		fields, err := jsonobject.Split(raw)
		if err != nil {
			return nil, false
		}
		for _, item := range fields {
			items = append(items, item)
		}
	} else if items == nil { // null is not a list
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

// text reads a non-empty name, which PHP may have made a number.
func text(raw json.RawMessage) (string, bool) {
	if s, ok := jsonobject.Text(raw); ok {
		return s, s != ""
	}
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
