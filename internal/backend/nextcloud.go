package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"postern/internal/auth"
)

// NextcloudOptions shape a backend that asks Nextcloud itself. Zero numbers and durations
// mean the defaults of config.hcl.example.
type NextcloudOptions struct {
	HTTPOptions // URL is where Nextcloud starts
	// AdminUser is the service account's name, an administrator or group administrator; empty:
	// there is none.
	AdminUser     string
	AdminPassword auth.Secret
	// AcceptOtherID lets people in whose login resolves to an account of another name, as mail
	// addresses do.
	AcceptOtherID bool
	// MaxDelay is the longest time by which Nextcloud may slow down each login after failed ones
	// before it is left alone.
	MaxDelay time.Duration
	// MaxMembers bounds the people of one shared roster.
	MaxMembers int
}

// Bounds and lifetimes of what is remembered.
const (
	maxAccounts = 50000          // users whose login name is known
	knownFor    = 24 * time.Hour // after a login, the user is surely the backend's
)

// nextcloud asks Nextcloud through its OCS API, which every Nextcloud has (FIELD 3.2).
type nextcloud struct {
	client   *httpClient
	options  NextcloudOptions
	base     string // path of the URL without a slash at its end
	now      func() time.Time
	accounts *accounts
	service  *service // nil without a service account

	// Failures by postern's own doing make Nextcloud slow all its logins down: after each one
	// it is asked how much.
	failures atomic.Uint64
	looked   atomic.Uint64 // the failures that are accounted for
}

var _ Prober = (*nextcloud)(nil)

// NewNextcloud returns a backend that asks the Nextcloud at o.URL. It answers auth, and with
// a service account isuser, roster and setpass; without one, isuser is Unsure. It is a
// Prober. Errors say what to correct in the options.
func NewNextcloud(o NextcloudOptions) (Backend, error) {
	o.URL = strings.TrimRight(o.URL, "/")
	if strings.ContainsAny(o.URL, "?#") {
		return nil, errors.New("url must have no query and no fragment: it is where Nextcloud starts")
	}
	if (o.AdminUser == "") != o.AdminPassword.Empty() || strings.Contains(o.AdminUser, ":") {
		return nil, errors.New("a service account needs both admin_user, without a colon, and admin_password")
	}
	client, err := newHTTPClient(o.HTTPOptions)
	if err != nil {
		return nil, err
	}
	if o.MaxDelay <= 0 {
		o.MaxDelay = 1600 * time.Millisecond
	}
	if o.MaxMembers <= 0 {
		o.MaxMembers = 10000
	}
	n := &nextcloud{client: client, options: o, base: strings.TrimSuffix(client.target, "/"), now: time.Now, accounts: newAccounts(maxAccounts)}
	if o.AdminUser != "" {
		n.service = &service{}
	}
	return n, nil
}

// Close implements Backend.
func (n *nextcloud) Close() error { n.client.close(); return nil }

// Ask implements Backend. The document of a roster has the form of the JSXC app's.
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
	if r, slow := n.slowed(ctx); slow {
		return r
	}
	switch q.Op {
	case auth.OpAuth:
		return n.login(ctx, q, names)
	case auth.OpIsUser:
		return n.isUser(ctx, q, names)
	case auth.OpSetPass:
		return n.setPassword(ctx, q, names)
	}
	return n.roster(ctx, q, names)
}

// Why an answer is what it is.
var (
	errNoService = errors.New("without a service account (admin_user) nobody can be looked up")
	errOtherID   = errors.New("the login is that of an account of another name; accept_other_id would allow it")
	errAppOnly   = errors.New("the server let nobody in without calling the password wrong: the user may need an app password (two-factor login, token_auth_enforced)")
)

// login checks a password. Every name that the server refuses is an attempt counted against
// postern's address, so once the login name of a user is known no other is tried.
func (n *nextcloud) login(ctx context.Context, q Query, names []string) Result {
	if password := q.Secret.Reveal(); password == "" || password == "0" { // PHP takes "0" for none
		return Result{Class: Refused}
	}
	tried := names
	last, known := n.accounts.get(q.key(), names)
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
			n.accounts.put(q.key(), account{name, id, n.now()})
			r.Attempts = i
			return r
		case r.Class == Refused:
			answer.Err = r.Err
			answer.Attempts++
			if r.Known { // and disabled: nobody else is to say yes
				answer.Known = true
				return answer
			}
		case i > 0:
			// One of the names was refused, perhaps rightly: no cache may serve in grace.
			return Result{Class: Misconfigured, Suspect: true, Attempts: i, Err: fmt.Errorf("the password was refused under one login name, and under the next: %w", r.Err)}
		default:
			return r
		}
	}
	if n.service != nil {
		return n.judge(ctx, q, names, answer)
	}
	return answer
}

// judge tells for a chain of backends what a refusal means: the user is known here, or surely
// is not. Whoever is not known cannot be kept from trying first, since some of Nextcloud's user
// backends make an account at its first login.
func (n *nextcloud) judge(ctx context.Context, q Query, names []string, answer Result) Result {
	_, r := n.account(ctx, q, names)
	switch {
	case r.Class == Accepted:
		answer.Known = true
	case r.Class == Refused && r.Absent:
		answer.Known, answer.Absent = false, true
	}
	return answer
}

// among reports whether an account's name is one of the login names, letter case aside as
// Nextcloud compares them.
func among(id string, names []string) bool {
	for _, name := range names {
		if strings.EqualFold(id, name) {
			return true
		}
	}
	return false
}

// try is one attempt to log in. It returns the name of the account.
func (n *nextcloud) try(ctx context.Context, name string, secret auth.Secret) (id string, r Result) {
	begun := n.now()
	a, err := n.ask(ctx, http.MethodGet, "cloud/user", basic(name, secret.Reveal()), nil)
	if n.now().Sub(begun) > n.options.MaxDelay {
		n.failures.Add(1) // others may fail from the same address
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

// classifyLogin gives the answers to an attempt their meaning (FIELD 3.2).
func classifyLogin(a ocs, secret string) (id string, r Result) {
	if r, ok := a.fault(secret); !ok {
		return "", r
	}
	switch {
	case a.denied():
		// So newer versions say where they want a password of another kind. The text is not translated.
		if strings.Contains(a.message, "not logged in") {
			return "", Result{Class: Refused, Err: errAppOnly}
		}
		return "", Result{Class: Refused}
	case a.fine():
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
		return "", outage("HTTP 200, but whether the account is enabled is not told")
	}
	if !enabled {
		return id, Result{Class: Refused, Known: true, Err: errors.New("the account is disabled")}
	}
	return id, Result{Class: Accepted, Known: true}
}
