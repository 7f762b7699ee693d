package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"postern/internal/auth"
)

// misconfigured is a Result that only an administrator can correct.
func misconfigured(cure string) Result {
	return Result{Class: Misconfigured, Err: errors.New(cure)}
}

// outage is a Result that may be another one later.
func outage(format string, args ...any) Result {
	return Result{Class: Outage, Err: fmt.Errorf(format, args...)}
}

// classifyStatus classifies responses by their status code alone, as the package comment lists
// them.
func classifyStatus(q Query, r response) Result {
	text := fmt.Sprintf("HTTP %d", r.status)
	switch status := r.status; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		if q.Op == auth.OpAuth {
			return Result{Class: Refused}
		}
		return misconfigured(text + ": the server does not let postern ask; check its access rules")
	case status == http.StatusNotFound:
		return misconfigured(text + ": there is no such API at url; check it, and that the server's app is enabled")
	case status == http.StatusTooManyRequests:
		return Result{Class: Throttled, Err: errors.New(text + ": the server limits postern; exempt its address there")}
	case status >= 300 && status < 400:
		return redirect(r, q.Secret.Reveal())
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooEarly:
		return misconfigured(text + ": the server rejects the request; check url")
	}
	return outage("%s", text)
}

var errNoObject = errors.New("the answer is not a JSON object (a login or maintenance page?)")

// object splits a JSON object into its members. Unlike decoding into a struct it is
// case-sensitive.
func object(data []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil || fields == nil {
		return nil, errNoObject
	}
	return fields, nil
}

// texts reads a list as PHP writes it: an array with gaps in its keys becomes an object, and a
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
