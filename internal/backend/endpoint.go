package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"postern/internal/auth"
)

// EndpointOptions configure a backend that is one URL.
type EndpointOptions struct {
	HTTPOptions
	// Method of the request, GET or POST.
	Method string
	// TrueAt is a JSON pointer (RFC 6901) into the answer: true there is a yes, false a no. Empty: each
	// status of 2xx is a yes.
	TrueAt string
	// Realm and DenyBody say which 401 is a no: one with a challenge of that realm, or with that text in its
	// body. Without them 401 says nothing about the password: something in front of the endpoint may want
	// one of its own.
	Realm, DenyBody string
}

// basicURL asks any URL that wants HTTP Basic authentication.
type basicURL struct {
	client  *httpClient
	options EndpointOptions
}

// NewEndpoint returns a backend that checks passwords by asking o.URL with HTTP Basic authentication. Its
// errors say what to correct in the options.
func NewEndpoint(o EndpointOptions) (Backend, error) {
	switch {
	case o.Method != http.MethodGet && o.Method != http.MethodPost:
		return nil, errors.New("method must be GET or POST")
	case o.TrueAt == "" && o.Realm == "" && o.DenyBody == "":
		return nil, errors.New("without realm, deny_body or true_at no answer would be a no")
	case o.TrueAt != "" && o.TrueAt[0] != '/':
		return nil, errors.New("true_at must be a JSON pointer, which begins with a slash")
	}
	client, err := newHTTPClient(o.HTTPOptions)
	if err != nil {
		return nil, err
	}
	return &basicURL{client, o}, nil
}

// Close implements Backend.
func (e *basicURL) Close() error { e.client.close(); return nil }

// Ask implements Backend. The login names are tried in turn.
func (e *basicURL) Ask(ctx context.Context, q Query) (result Result) {
	if q.Op != auth.OpAuth {
		return Result{Class: Unsupported}
	}
	password := q.Secret.Reveal()
	if password == "" || strings.ContainsFunc(password, func(r rune) bool { return r == 0 }) {
		return Result{Class: Refused}
	}
	result = Result{Class: Refused}
	for i, name := range q.LoginNames() {
		r, err := e.client.do(ctx, request{method: e.options.Method, target: e.client.target, header: []headerField{
			{"Authorization", basic(name, password)},
			{"Accept", "application/json, */*;q=0.5"},
		}})
		if err != nil {
			result = unanswered(err)
		} else {
			result = e.classify(q, r)
		}
		result.Attempts = i + 1
		if result.Class != Refused {
			result.Suspect = i > 0 && result.Class != Accepted
			return result
		}
	}
	return result
}

func (e *basicURL) classify(q Query, r response) Result {
	switch status := r.status; {
	case status >= 200 && status < 300 && e.options.TrueAt == "":
		return Result{Class: Accepted, Known: true}
	case status >= 200 && status < 300:
		return e.pointed(r.body)
	case status == http.StatusUnauthorized && e.denies(r):
		return Result{Class: Refused}
	case status == http.StatusUnauthorized:
		return outage("HTTP 401, but neither with the realm nor with the deny_body of the backend's block: something in front of the endpoint may want a password")
	case status == http.StatusNotFound:
		return outage("HTTP 404: there is no such endpoint at url")
	}
	return foreign(q, r)
}

// pointed reads what TrueAt points to.
func (e *basicURL) pointed(body []byte) Result {
	switch value, ok := jsonAt(body, e.options.TrueAt); {
	case ok && value == true:
		return Result{Class: Accepted, Known: true}
	case ok && value == false:
		return Result{Class: Refused}
	}
	return outage("the answer has neither true nor false at %s", e.options.TrueAt)
}

// denies reports whether a 401 is the endpoint's own no.
func (e *basicURL) denies(r response) bool {
	return e.options.DenyBody != "" && bytes.Contains(r.body, []byte(e.options.DenyBody)) ||
		e.options.Realm != "" && hasRealm(r.challenge, e.options.Realm)
}

// hasRealm reports whether a challenge is one of HTTP Basic with a realm.
func hasRealm(challenge, realm string) bool {
	for _, quoted := range []string{`realm="` + realm + `"`, "realm=" + realm} {
		for rest := challenge; ; {
			at := strings.Index(rest, quoted)
			if at < 0 {
				break
			}
			end := rest[at+len(quoted):]
			if strings.EqualFold(challenge[:min(len(challenge), len("Basic "))], "Basic ") && (end == "" || end[0] == ',' || end[0] == ' ') {
				return true
			}
			rest = end
		}
	}
	return false
}

// jsonAt returns what a pointer of RFC 6901 leads to in a document.
func jsonAt(document []byte, pointer string) (value any, ok bool) {
	if json.Unmarshal(document, &value) != nil {
		return nil, false
	}
	for step := range strings.SplitSeq(pointer[1:], "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch at := value.(type) {
		case map[string]any:
			if value, ok = at[step]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(at) || strconv.Itoa(i) != step {
				return nil, false
			}
			value = at[i]
		default:
			return nil, false
		}
	}
	return value, true
}

// AuthHTTPOptions configure a backend with the API of MongooseIM's auth_http.
type AuthHTTPOptions struct {
	HTTPOptions        // URL is the prefix of the methods
	User        string // of the service, for HTTP Basic; empty: none
	Password    auth.Secret
}

// authHTTP asks an endpoint that was made for MongooseIM, ejabberd_auth_http or Prosody's mod_auth_http.
type authHTTP struct {
	client *httpClient
	base   string // path of the URL with a trailing slash
	header []headerField
}

// NewAuthHTTP returns a backend that asks o.URL/check_password and the other methods of the API. Its
// errors say what to correct in the options.
func NewAuthHTTP(o AuthHTTPOptions) (Backend, error) {
	if strings.ContainsAny(o.URL, "?#") {
		return nil, errors.New("url must have no query and no fragment: /check_password and others are appended to it")
	}
	client, err := newHTTPClient(o.HTTPOptions)
	if err != nil {
		return nil, err
	}
	a := &authHTTP{client: client, base: strings.TrimSuffix(client.target, "/") + "/"}
	if o.User != "" {
		a.header = []headerField{{"Authorization", basic(o.User, o.Password.Reveal())}}
	}
	return a, nil
}

// Close implements Backend.
func (a *authHTTP) Close() error { a.client.close(); return nil }

// Ask implements Backend.
func (a *authHTTP) Ask(ctx context.Context, q Query) Result {
	methods := map[auth.Operation]string{
		auth.OpAuth: "check_password", auth.OpIsUser: "user_exists", auth.OpSetPass: "set_password",
		auth.OpTryRegister: "register", auth.OpRemoveUser: "remove_user",
	}
	method := methods[q.Op]
	if method == "" {
		return Result{Class: Unsupported}
	}
	password := ""
	if q.Op.NeedsSecret() {
		if password = q.Secret.Reveal(); password == "" {
			return Result{Class: Refused}
		}
	}
	if q.User == "" || !utf8.ValidString(q.User) {
		return Result{Class: Refused}
	}
	form := encodeForm([]param{{"user", q.User}, {"server", q.Domain}, {"pass", password}})
	ask := request{method: http.MethodGet, target: a.base + method + "?" + string(form), header: a.header}
	if q.Op.Changes() {
		ask = request{method: http.MethodPost, target: a.base + method, header: a.header, body: form}
	}
	r, err := a.client.do(ctx, ask)
	if err != nil {
		return unanswered(err)
	}
	if q.Op.Changes() {
		return classifyAuthHTTPChange(q, r)
	}
	switch text := strings.TrimSpace(string(r.body)); {
	case r.status == http.StatusOK && text == "true":
		return Result{Class: Accepted, Known: true}
	case r.status == http.StatusOK && text == "false":
		return Result{Class: Refused, Known: false}
	case r.status == http.StatusUnauthorized:
		return misconfigured("HTTP 401: the endpoint refuses the user and password of the service")
	case r.status == http.StatusOK:
		return outage("HTTP 200, but the answer is neither true nor false")
	}
	return foreign(q, r)
}

// classifyAuthHTTPChange goes by the status, which is all that such an answer has.
func classifyAuthHTTPChange(q Query, r response) Result {
	switch r.status {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
		return Result{Class: Accepted, Known: true}
	case http.StatusUnauthorized:
		return misconfigured("HTTP 401: the endpoint refuses the user and password of the service")
	case http.StatusNotFound:
		return Result{Class: Refused, Absent: q.Op != auth.OpTryRegister, Err: errors.New("HTTP 404")}
	case http.StatusBadRequest, http.StatusForbidden, http.StatusConflict:
		return Result{Class: Refused, Err: fmt.Errorf("HTTP %d", r.status)}
	}
	return foreign(q, r)
}
