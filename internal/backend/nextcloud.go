package backend

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"postern/internal/auth"
)

// NextcloudOptions configure a backend that asks Nextcloud itself. Zero numbers and durations mean
// the defaults of config.hcl.example.
type NextcloudOptions struct {
	HTTPOptions // URL is the base URL of Nextcloud
	// AdminUser is the name of the service account, an administrator or group administrator. Empty
	// means that there is none.
	AdminUser     string
	AdminPassword auth.Secret
	// AcceptOtherID allows logins that resolve to an account of another name, as mail addresses do.
	AcceptOtherID bool
	// MaxDelay is the longest delay of logins, which Nextcloud raises after failed ones, at which it
	// is still asked.
	MaxDelay time.Duration
	// MaxMembers bounds the members of one shared roster.
	MaxMembers int
}

const (
	maxLogins = 50000          // users in the loginCache
	knownFor  = 24 * time.Hour // how long a login proves that the user exists here
)

// nextcloud asks Nextcloud through its OCS API, which needs no app.
type nextcloud struct {
	client  *httpClient
	options NextcloudOptions
	base    string // path of the URL without a trailing slash
	now     func() time.Time
	logins  *loginCache
	service *service // nil without a service account

	// Each failed login may make Nextcloud delay all logins from postern's address, so the delay is
	// asked for when failures differs from checked.
	failures atomic.Uint64
	checked  atomic.Uint64
}

var _ Prober = (*nextcloud)(nil)

// NewNextcloud returns a backend that asks the Nextcloud at o.URL. It answers auth, and with a
// service account isuser, roster and setpass; without one, isuser is Unsure. It is a Prober. Its
// errors say what to correct in the options.
func NewNextcloud(o NextcloudOptions) (Backend, error) {
	o.URL = strings.TrimRight(o.URL, "/")
	if strings.ContainsAny(o.URL, "?#") {
		return nil, errors.New("url must have no query and no fragment: it is the base URL of Nextcloud")
	}
	if (o.AdminUser == "") != o.AdminPassword.Empty() || strings.Contains(o.AdminUser, ":") {
		return nil, errors.New("a service account needs both admin_user, without a colon, and admin_password")
	}
	client, err := newHTTPClient(o.HTTPOptions)
	if err != nil {
		return nil, err
	}
	o.MaxDelay = cmp.Or(o.MaxDelay, 1600*time.Millisecond)
	o.MaxMembers = cmp.Or(o.MaxMembers, 10000)
	n := &nextcloud{client: client, options: o, base: strings.TrimSuffix(client.target, "/"), now: time.Now, logins: newLoginCache(maxLogins)}
	if o.AdminUser != "" {
		n.service = &service{}
	}
	return n, nil
}

// Close implements Backend.
func (n *nextcloud) Close() error { n.client.close(); return nil }

// Ask implements Backend. The body of a roster has the form of the JSXC app's.
func (n *nextcloud) Ask(ctx context.Context, q Query) Result {
	switch q.Op {
	case auth.OpAuth, auth.OpIsUser:
	case auth.OpRoster, auth.OpSetPass:
		if n.service == nil {
			return Result{Class: Unsupported}
		}
	default:
		return Result{Class: Unsupported}
	}
	names := q.LoginNames()
	if len(names) == 0 {
		return Result{Class: Refused, Absent: true}
	}
	if q.Op == auth.OpIsUser && n.service == nil {
		return Result{Class: Unsure, Err: errNoService}
	}
	if r, delayed := n.delayed(ctx); delayed {
		return r
	}
	switch q.Op {
	case auth.OpAuth:
		return n.login(ctx, q, names)
	case auth.OpIsUser:
		_, r := n.account(ctx, q, names)
		return r
	case auth.OpSetPass:
		return n.setPassword(ctx, q, names)
	}
	return n.roster(ctx, q, names)
}

// Reasons for results.
var (
	errNoService = errors.New("users cannot be looked up without a service account (admin_user)")
	errOtherID   = errors.New("the login leads to an account of another name; accept_other_id would allow it")
	errAppOnly   = errors.New("the server refused the login without calling the password wrong: the user may need an app password (two-factor login, token_auth_enforced)")
)

// login checks a password. Every refused login name counts as a failure of postern's address, so
// once the login name of a user is known, no other is tried.
func (n *nextcloud) login(ctx context.Context, q Query, names []string) Result {
	if password := q.Secret.Reveal(); password == "" || password == "0" { // PHP takes "0" for empty
		return Result{Class: Refused}
	}
	tried := names
	last, known := n.logins.get(q.key(), names)
	if known {
		tried = []string{last.name}
	}
	answer := Result{Class: Refused, Known: known && n.now().Sub(last.at) < knownFor}
	for i, name := range tried {
		id, r := n.try(ctx, name, q.Secret)
		switch {
		case r.Known && !n.options.AcceptOtherID && !among(id, names):
			answer.Err = errOtherID
			return answer
		case r.Class == Accepted:
			n.logins.put(q.key(), lastLogin{name, id, n.now()})
			r.Attempts = i
			return r
		case r.Class == Refused:
			answer.Err = r.Err
			answer.Attempts++
			if r.Known { // a disabled account: no other backend may accept
				answer.Known = true
				return answer
			}
		case i > 0:
			// The refusal may be right, so no cache may serve in grace.
			return Result{Class: Misconfigured, Suspect: true, Attempts: i, Err: fmt.Errorf("the password was refused under one login name, and under the next: %w", r.Err)}
		default:
			return r
		}
	}
	if n.service != nil {
		// A chain of backends needs to know whether the refused user exists here. This is not
		// asked before the login, since some of Nextcloud's user backends create an account at its
		// first login.
		_, r := n.account(ctx, q, names)
		switch {
		case r.Class == Accepted:
			answer.Known = true
		case r.Class == Refused && r.Absent:
			answer.Known, answer.Absent = false, true
		}
	}
	return answer
}

// among reports whether id is one of the login names. Nextcloud ignores their case.
func among(id string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(id, name) })
}

// try makes one attempt to log in. It returns the account's id.
func (n *nextcloud) try(ctx context.Context, name string, secret auth.Secret) (id string, r Result) {
	begun := n.now()
	a, err := n.call(ctx, http.MethodGet, "cloud/user", basic(name, secret.Reveal()), nil)
	if n.now().Sub(begun) > n.options.MaxDelay {
		n.failures.Add(1) // other logins from this address may have failed
	}
	if err != nil {
		return "", Result{Class: Outage, Err: err}
	}
	id, r = classifyLogin(a, secret.Reveal())
	if r.Class == Refused || r.Class == Throttled || a.status == http.StatusInternalServerError {
		n.failures.Add(1)
	}
	return id, r
}

// classifyLogin classifies the answer to a login.
func classifyLogin(a ocs, secret string) (id string, r Result) {
	if r, ok := a.fault(secret); !ok {
		return "", r
	}
	switch {
	case a.denied():
		// Newer versions say this where they require an app password. The text is not translated.
		if strings.Contains(a.message, "not logged in") {
			return "", Result{Class: Refused, Err: errAppOnly}
		}
		return "", Result{Class: Refused}
	case a.ok():
		return classifyAccount(a)
	case a.status == http.StatusNotFound:
		return "", misconfigured("HTTP 404: the server has no user API; enable its app provisioning_api")
	}
	return "", misconfigured(fmt.Sprintf("HTTP %d: the server does not take the request", a.status))
}

// classifyAccount reads the account in an answer.
func classifyAccount(a ocs) (id string, r Result) {
	data, err := object(a.data)
	if err != nil {
		return "", outage("HTTP 200, but the answer holds no account")
	}
	id, ok := text(data["id"])
	if !ok {
		return "", outage("HTTP 200, but the account has no id")
	}
	enabled := true
	if raw, given := data["enabled"]; given && json.Unmarshal(raw, &enabled) != nil {
		return "", outage("HTTP 200, but not whether the account is enabled")
	}
	if !enabled {
		return id, Result{Class: Refused, Known: true, Err: errors.New("the account is disabled")}
	}
	return id, Result{Class: Accepted, Known: true}
}
