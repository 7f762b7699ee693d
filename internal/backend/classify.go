package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"postern/internal/auth"
)

// misconfigured is a Result that only the administrator can mend.
func misconfigured(cure string) Result {
	return Result{Class: Misconfigured, Err: errors.New(cure)}
}

// classifyStatus gives the HTTP status codes that carry no answer of the API their
// meaning (DESIGN, "The cache"). 401 and 403 refuse the login they answer; for a
// question without a password they refuse postern itself, which is no "no such user".
func classifyStatus(q Query, r reply) Result {
	text := fmt.Sprintf("HTTP %d", r.status)
	switch {
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		if q.Op == auth.OpAuth {
			return Result{Class: Refused}
		}
		return misconfigured(text + ": the server does not let postern ask; check its access rules")
	case r.status == http.StatusNotFound:
		return misconfigured(text + ": there is no such API at url; check it, and that the server's app is enabled")
	case r.status == http.StatusTooManyRequests:
		return Result{Class: Throttled, Err: errors.New(text + ": the server limits postern; exempt its address there")}
	case r.status >= 300 && r.status < 400:
		return Result{Class: Misconfigured, Err: redirectError(r.status, r.location, q.Secret.Reveal())}
	case r.status == http.StatusRequestTimeout, r.status == http.StatusTooEarly:
		return Result{Class: Outage, Err: errors.New(text)}
	case r.status >= 400 && r.status < 500:
		return misconfigured(text + ": the server does not take the request; check url")
	}
	return Result{Class: Outage, Err: errors.New(text)}
}

// errNoObject means that a document is not what every API here answers with.
var errNoObject = errors.New("the answer is no JSON object (a login or maintenance page?)")

// object splits a JSON object into its members. Unlike struct decoding it tells
// upper from lower case.
func object(data []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil || fields == nil {
		return nil, errNoObject
	}
	return fields, nil
}
