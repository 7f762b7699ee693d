package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"postern/internal/auth"
	"postern/internal/jsonobject"
)

// Lister is a Backend that can list its users.
type Lister interface {
	// Users lists the users of a domain, as Query.User names them. The error holds no secret.
	Users(ctx context.Context, domain string) ([]string, error)
}

var (
	_ Lister = (*users)(nil)
	_ Lister = (*nextcloud)(nil)
)

// Users implements Lister.
func (u *users) Users(_ context.Context, domain string) (names []string, err error) {
	all, err := u.file.List()
	for _, id := range all {
		if id.Domain == domain {
			names = append(names, id.User)
		}
	}
	return names, err
}

// listPage is how many users are asked for at a time, and maxListed how many there may be.
const (
	listPage  = 500
	maxListed = 1_000_000
)

// Users implements Lister, by the service account. An account of another domain than the one asked for is
// left out.
func (n *nextcloud) Users(ctx context.Context, domain string) (names []string, err error) {
	if n.options.AdminUser == "" {
		return nil, errors.New("users are listed by a service account: add admin_user and admin_password")
	}
	seen := make(map[string]bool)
	for offset := 0; ; offset += listPage {
		a, r, ok := n.asService(ctx, http.MethodGet, fmt.Sprintf("cloud/users?limit=%d&offset=%d", listPage, offset), nil, false)
		switch {
		case !ok:
			return nil, r.Err
		case !a.ok():
			return nil, fmt.Errorf("HTTP %d (code %d): the service account may not list users", a.status, a.code)
		}
		data, err := jsonobject.Split(a.data)
		ids, listed := texts(data["users"])
		if err != nil || !listed {
			return nil, errors.New("the answer holds no users")
		}
		fresh := false
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id], fresh = true, true
			user, of, addressed := strings.Cut(id, "@")
			if folded, err := auth.FoldDomain(of); !addressed || err == nil && folded == domain {
				names = append(names, user)
			}
		}
		if !fresh || len(ids) < listPage { // a server without paging repeats itself
			return names, nil
		}
		if len(seen) > maxListed {
			return nil, errors.New("there are too many users to be listed")
		}
	}
}
