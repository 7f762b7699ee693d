package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	rightsTTL  = time.Hour // how long a check of the service account's rights is valid
	refusalTTL = time.Hour // how long it is not tried again: each refusal counts as a failure
)

// service is the state of the service account. It is safe for concurrent use.
type service struct {
	mu      sync.Mutex
	proven  time.Time // when it last showed its rights
	refused time.Time // when its password was refused
}

func (s *service) set(proven, refused time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proven, s.refused = proven, refused
}

func (s *service) get() (proven, refused time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven, s.refused
}

// errService means that the service account cannot log in.
var errService = errors.New("the server refuses the service account: check admin_user and admin_password " +
	"(an app password made under that login name); it is not tried again for an hour, or until a restart")

// errRights means that users may exist whom the service account does not find.
var errRights = errors.New("the service account may not look up users: make admin_user an administrator, or a group administrator of their groups")

// validAccount reports whether a name can be an account's and a segment of a path. Neither a proxy
// nor Nextcloud may read another path in it.
func validAccount(name string) bool {
	return strings.Trim(name, ".") != "" && !strings.ContainsAny(name, "/\\")
}

// asService calls the API as the service account. If ok is false, r says why there is no answer.
// 400, 403 and 404 are answers for the caller to interpret. 401 means that the account is refused,
// unless expect401 is set.
func (n *nextcloud) asService(ctx context.Context, method, path string, form []param, expect401 bool) (a ocs, r Result, ok bool) {
	proven, refused := n.service.get()
	if !refused.IsZero() && n.now().Sub(refused) < refusalTTL {
		return a, Result{Class: Misconfigured, Err: errService}, false
	}
	password := n.options.AdminPassword.Reveal()
	a, err := n.call(ctx, method, path, basic(n.options.AdminUser, password), form)
	if err != nil {
		return a, Result{Class: Outage, Err: err}, false
	}
	if r, ok = a.fault(password); !ok {
		return a, r, false
	}
	if a.status == http.StatusUnauthorized && !expect401 {
		n.failures.Add(1)
		n.service.set(proven, n.now())
		return a, Result{Class: Misconfigured, Err: errService}, false
	}
	return a, r, true
}

// missing reports whether the API says that an account does not exist. It uses the same code where
// the whole API is missing.
func missing(a ocs) bool {
	return a.status == http.StatusNotFound && a.code == http.StatusNotFound && !strings.HasPrefix(a.message, "Invalid query")
}

// find returns the first of some names that is an account. If none is, the class is Refused only
// if the service account may look users up; otherwise it is Unsure or Misconfigured.
func (n *nextcloud) find(ctx context.Context, names []string) (id string, r Result) {
	hidden := false
	for _, name := range names {
		if !validAccount(name) {
			continue
		}
		a, r, ok := n.asService(ctx, http.MethodGet, "cloud/users/"+url.PathEscape(name), nil, false)
		switch {
		case !ok:
			return "", r
		case missing(a):
		case a.ok():
			found, r := classifyAccount(a)
			if r.Class == Outage || !among(found, names) {
				return "", outage("HTTP 200, but the answer is of another account")
			}
			return found, Result{Class: Accepted, Known: true} // a disabled account exists, too
		default:
			hidden = true
		}
	}
	switch r, ok := n.prove(ctx, rightsTTL); {
	case !ok:
		return "", r
	case hidden:
		return "", Result{Class: Unsure, Err: errRights}
	}
	return "", Result{Class: Refused, Absent: true}
}

// prove checks that the service account may look up users: an account without rights gets a 404
// for every name. A check is valid for ttl.
func (n *nextcloud) prove(ctx context.Context, ttl time.Duration) (r Result, ok bool) {
	if proven, _ := n.service.get(); !proven.IsZero() && n.now().Sub(proven) < ttl {
		return r, true
	}
	a, r, ok := n.asService(ctx, http.MethodGet, "cloud/users?limit=1", nil, false)
	switch {
	case !ok:
		return r, false
	case a.ok():
		n.service.set(n.now(), time.Time{})
		return Result{}, true
	case a.status == http.StatusNotFound:
		return misconfigured("HTTP 404: the server has no user API; enable its app provisioning_api"), false
	}
	return Result{Class: Misconfigured, Err: errRights}, false
}

// account returns the id of a user's account: that of the last login, if it still exists, or the
// first of the login names that is one.
func (n *nextcloud) account(ctx context.Context, q Query, names []string) (id string, r Result) {
	if last, known := n.logins.get(q.key(), names); known {
		if id, r = n.find(ctx, []string{last.id}); r.Class != Refused {
			return id, r
		}
		n.logins.remove(q.key())
	}
	id, r = n.find(ctx, names)
	if r.Class == Refused && n.options.AcceptOtherID {
		return "", Result{Class: Unsure, Err: errors.New("no account has this name, but a login may lead to one of another name")}
	}
	return id, r
}

// setPassword sets a user's password as the service account: front ends do not send the old
// password, which the user would need for it.
func (n *nextcloud) setPassword(ctx context.Context, q Query, names []string) Result {
	id, r := n.account(ctx, q, names)
	if r.Class != Accepted {
		return r
	}
	password := q.Secret.Reveal()
	form := []param{{"key", "password"}, {"value", password}}
	a, r, ok := n.asService(ctx, http.MethodPut, "cloud/users/"+url.PathEscape(id), form, true)
	switch {
	case !ok:
		return r
	case a.ok():
		return Result{Class: Accepted, Known: true}
	case a.status == http.StatusBadRequest && a.code == ocsNoPassword:
		return Result{Class: Unsupported}
	case a.status == http.StatusBadRequest:
		return Result{Class: Refused, Known: true, Err: fmt.Errorf("the server does not take the new password (code %d): see its password policy", a.code)}
	}
	return misconfigured(fmt.Sprintf("HTTP %d: the service account may not change this user's password; "+
		"some versions want its real password for that, not an app password", a.status))
}

// ocsNoPassword is the code of a user backend in Nextcloud that cannot set passwords.
const ocsNoPassword = 112
