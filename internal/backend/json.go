package backend

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"postern/internal/auth"
	"postern/internal/jsonobject"
)

// jsonAPI asks a web application with the JSON API of kongo2002's ejabberd-auth.
type jsonAPI struct {
	client *httpClient
	base   string // path of the URL without a trailing slash
}

// NewJSON returns a backend that posts to o.URL/login and o.URL/exists. It answers auth and
// isuser. Its errors say what to correct in the options.
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

// Ask implements Backend.
func (j *jsonAPI) Ask(ctx context.Context, q Query) Result {
	var body struct {
		Username string `json:"username"`
		Password string `json:"password,omitempty"`
	}
	body.Username = q.User + "@" + q.Domain
	path := "/exists"
	switch q.Op {
	case auth.OpAuth:
		path, body.Password = "/login", q.Secret.Reveal()
		if body.Password == "" || !utf8.ValidString(body.Password) {
			return Result{Class: Refused} // JSON would turn it into another password
		}
	case auth.OpIsUser:
	default:
		return Result{Class: Unsupported}
	}
	if q.User == "" || !utf8.ValidString(body.Username) {
		return Result{Class: Refused}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return outage("the request cannot be written as JSON")
	}
	r, err := j.client.post(ctx, j.base+path, []headerField{
		{"Content-Type", "application/json"},
		{"Accept", "application/json"},
	}, data)
	if err != nil {
		return unanswered(err)
	}
	return classifyJSON(q, r)
}

// classifyJSON accepts only a JSON true or false in success, with status 200.
func classifyJSON(q Query, r response) Result {
	fields, err := jsonobject.Split(r.body)
	if err != nil || r.status != http.StatusOK {
		return foreign(q, r)
	}
	switch string(fields["success"]) {
	case "true":
		return Result{Class: Accepted, Known: true}
	case "false":
		return Result{Class: Refused}
	}
	return outage("HTTP 200, but success is neither true nor false: the application has another API, or something in front of it answered")
}
