package roster

import (
	"errors"
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/store"
)

// AdoptUser returns the changes that take over what another program has told the XMPP server of
// a user; none if something is known already. u.Groups are sorted.
func (s State) AdoptUser(id auth.Identity, u User) ([]store.Op, error) {
	id = Login(id)
	_, err := s.Store.Get(s.userKey(id))
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return []store.Op{s.putUser(id, &u)}, nil
}

// AdoptGroup does the same for a group. g.Members are sorted.
func (s State) AdoptGroup(name string, g Group) ([]store.Op, error) {
	_, err := s.Store.Get(s.groupKey(name))
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return []store.Op{s.putGroup(name, &g)}, nil
}

// Erased counts what Erase removes.
type Erased struct {
	Users  int // records of users
	Groups int // that name one of them
}

// Erase returns the changes that remove a user from all domains' rosters, or, with an empty user
// name, a domain with its users. A group that names one of them is forgotten wholly: before
// anything is done to it again, its members are read from the XMPP server.
func Erase(s store.Store, id auth.Identity) (ops []store.Op, n Erased, err error) {
	id = Login(id)
	hit := func(address string) bool {
		if id.User == "" {
			return strings.HasSuffix(address, "@"+id.Domain)
		}
		return address == id.String()
	}
	err = s.Scan([]byte(store.Roster), func(key, value []byte) bool {
		domain, rest, _ := strings.Cut(string(key[len(store.Roster):]), "\x00")
		kind, name, _ := strings.Cut(rest, "\x00")
		gone := id.User == "" && domain == id.Domain
		switch kind {
		case "user":
			if gone = gone || hit(name); gone {
				n.Users++
			}
		case "group":
			g, err := decodeGroup(value)
			if gone = gone || err == nil && slices.ContainsFunc(g.Members, hit); gone {
				n.Groups++
			}
		}
		if gone {
			ops = append(ops, store.Op{Key: slices.Clone(key)})
		}
		return true
	})
	return ops, n, err
}
