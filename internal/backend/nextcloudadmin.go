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

// How long what is known of the service account is believed.
const (
	provenFor  = time.Hour // its rights
	refusedFor = time.Hour // its refusal: each further try would be a counted attempt
)

// service is what is known of the service account. It is safe for concurrent use.
type service struct {
	mu      sync.Mutex
	proven  time.Time // when it last showed its rights
	refused time.Time // when its password was refused
}

func (s *service) note(proven, refused time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proven, s.refused = proven, refused
}

func (s *service) state() (proven, refused time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven, s.refused
}

// errService means that the service account cannot log in.
var errService = errors.New("the server refuses the service account: check admin_user and admin_password " +
	"(an app password made under that login name); it is not tried again for an hour, or until a restart")

// errRights means that what the service account does not find may be there nevertheless.
var errRights = errors.New("the service account may not look up users: make admin_user a group administrator of theirs, or an administrator")

// accountName reports whether a name can be an account's and a part of a path: neither a
// server in between nor Nextcloud may read another path in it.
func accountName(name string) bool {
	return strings.Trim(name, ".") != "" && !strings.ContainsAny(name, "/\\")
}

// asService asks as the service account. The error of an answer that is none is in r, and ok
// is false; 403 and 404 are the caller's to understand. Where own is set, so is 401.
func (n *nextcloud) asService(ctx context.Context, method, path string, form []param, own bool) (a ocs, r Result, ok bool) {
	proven, refused := n.service.state()
	if !refused.IsZero() && n.now().Sub(refused) < refusedFor {
		return a, Result{Class: Misconfigured, Err: errService}, false
	}
	password := n.options.AdminPassword.Reveal()
	a, err := n.ask(ctx, method, path, basic(n.options.AdminUser, password), form)
	if err != nil {
		return a, Result{Class: Outage, Err: err}, false
	}
	if r, ok = a.fault(password); !ok {
		return a, r, false
	}
	if a.status == http.StatusUnauthorized && !own {
		n.failures.Add(1)
		n.service.note(proven, n.now())
		return a, Result{Class: Misconfigured, Err: errService}, false
	}
	return a, r, true
}

// missing is what the API says to a name that no account has. Where the whole API is missing
// it says so with the same number.
func missing(a ocs) bool {
	return a.status == http.StatusNotFound && a.code == http.StatusNotFound && !strings.HasPrefix(a.message, "Invalid query")
}

// find looks for the first of some names that is an account. A "no" is one only when the
// service account has shown that it may look: else it is Unsure or Misconfigured.
func (n *nextcloud) find(ctx context.Context, names []string) (id string, r Result) {
	hidden := false
	for _, name := range names {
		if !accountName(name) {
			continue
		}
		a, r, ok := n.asService(ctx, http.MethodGet, "cloud/users/"+url.PathEscape(name), nil, false)
		switch {
		case !ok:
			return "", r
		case missing(a):
		case a.fine():
			found, r := classifyAccount(a)
			if r.Class == Outage || !among(found, names) {
				return "", outage("HTTP 200, but the answer is of another account")
			}
			return found, Result{Class: Accepted, Known: true} // disabled ones, too, are there
		default:
			hidden = true
		}
	}
	switch r, ok := n.prove(ctx, provenFor); {
	case !ok:
		return "", r
	case hidden:
		return "", Result{Class: Unsure, Err: errRights}
	}
	return "", Result{Class: Refused, Absent: true}
}

// prove makes sure that the service account may look up users: whoever may not gets the same
// 404 for every name. An earlier proof is good for ttl.
func (n *nextcloud) prove(ctx context.Context, ttl time.Duration) (r Result, ok bool) {
	if proven, _ := n.service.state(); !proven.IsZero() && n.now().Sub(proven) < ttl {
		return r, true
	}
	a, r, ok := n.asService(ctx, http.MethodGet, "cloud/users?limit=1", nil, false)
	switch {
	case !ok:
		return r, false
	case a.fine():
		n.service.note(n.now(), time.Time{})
		return Result{}, true
	case a.status == http.StatusNotFound:
		return misconfigured("HTTP 404: the server has no user API; enable its app provisioning_api"), false
	}
	return Result{Class: Misconfigured, Err: errRights}, false
}

// isUser looks a user up.
func (n *nextcloud) isUser(ctx context.Context, q Query, names []string) Result {
	_, r := n.account(ctx, q, names)
	return r
}

// account returns the name of a user's account: the one of the last login, if it is still
// there, or the first of the names that is one.
func (n *nextcloud) account(ctx context.Context, q Query, names []string) (id string, r Result) {
	if last, known := n.accounts.get(q.key(), names); known {
		if id, r = n.find(ctx, []string{last.id}); r.Class != Refused {
			return id, r
		}
		n.accounts.forget(q.key())
	}
	id, r = n.find(ctx, names)
	if r.Class == Refused && n.options.AcceptOtherID {
		return "", Result{Class: Unsure, Err: errors.New("no account has this name, but a login may lead to one of another name")}
	}
	return id, r
}

// setPassword gives a user a new password, as the service account: the old password, with
// which the user could do it, is in no front end's request.
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
	case a.fine():
		return Result{Class: Accepted, Known: true}
	case a.status == http.StatusBadRequest && a.code == ocsNoPassword:
		return Result{Class: Unsupported}
	case a.status == http.StatusBadRequest:
		return Result{Class: Refused, Known: true, Err: fmt.Errorf("the server does not take the new password (code %d): see its password policy", a.code)}
	}
	return misconfigured(fmt.Sprintf("HTTP %d: the service account may not change this user's password; "+
		"some versions want its real password for that, not an app password", a.status))
}

// ocsNoPassword is the code where the users' own backend keeps passwords from being set.
const ocsNoPassword = 112
