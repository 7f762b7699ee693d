package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"postern/internal/auth"
)

// jsonAPI asks a web application through the JSON API of kongo2002's script
// (PROTOCOLS 3.11 and 4.2).
type jsonAPI struct {
	client *httpClient
	base   string // path of the URL without a slash at its end
}

// NewJSON returns a backend that posts to o.URL/login and o.URL/exists. It answers auth
// and isuser. Errors say what to correct in the options.
func NewJSON(o HTTPOptions) (Backend, error) {
	o.URL = strings.TrimRight(o.URL, "/")
	if strings.ContainsAny(o.URL, "?#") {
		return nil, errors.New("url must have no query and no fragment: /login and /exists are appended to it")
	}
	client, err := newHTTPClient(o)
	if err != nil {
		return nil, err
	}
	return &jsonAPI{client, strings.TrimSuffix(client.target, "/")}, nil
}

// Close implements Backend.
func (j *jsonAPI) Close() error { j.client.close(); return nil }

// credentials is the body of a question.
type credentials struct {
	Username string `json:"username"`
	Password string `json:"password,omitempty"`
}

// Ask implements Backend.
func (j *jsonAPI) Ask(ctx context.Context, q Query) Result {
	question := credentials{Username: q.User + "@" + q.Domain}
	path := "/exists"
	switch q.Op {
	case auth.OpAuth:
		path, question.Password = "/login", q.Secret.Reveal()
		if question.Password == "" || !utf8.ValidString(question.Password) {
			return Result{Class: Refused} // JSON would turn it into another password
		}
	case auth.OpIsUser:
	default:
		return Result{Class: Unsupported}
	}
	if q.User == "" || !utf8.ValidString(question.Username) {
		return Result{Class: Refused}
	}
	body, err := json.Marshal(question)
	if err != nil {
		return Result{Class: Outage, Err: errors.New("the question cannot be written as JSON")}
	}
	answer, err := j.client.post(ctx, j.base+path, []field{
		{"Content-Type", "application/json"},
		{"Accept", "application/json"},
	}, body)
	if err != nil {
		return Result{Class: Outage, Err: err}
	}
	return classifyJSON(q, answer)
}

// classifyJSON gives every answer of the application its meaning: only a JSON true or
// false in success with status 200 is an answer (PROTOCOLS 4.2).
func classifyJSON(q Query, r reply) Result {
	if r.status != http.StatusOK {
		return classifyStatus(q, r)
	}
	fields, err := object(r.body)
	if err != nil {
		return Result{Class: Outage, Err: fmt.Errorf("HTTP 200, but %w", err)}
	}
	switch string(fields["success"]) {
	case "true":
		return Result{Class: Accepted, Known: true}
	case "false":
		return Result{Class: Refused}
	}
	return Result{Class: Outage, Err: errors.New("HTTP 200, but success is neither true nor false")}
}
