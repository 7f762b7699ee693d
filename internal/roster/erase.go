package roster

import (
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/store"
)

// Erased counts what Erase removes.
type Erased struct {
	Users  int `json:"users"`  // records of users
	Groups int `json:"groups"` // records of groups with one of them
}

// Erase returns the changes that remove a user from all domains' rosters, or, with an empty user
// name, a domain with its users. A group with one of them keeps its other members and
// becomes dirty, and their next answers are applied anew.
func Erase(s store.Store, id auth.Identity) (ops []store.Op, n Erased, err error) {
	id = Login(id)
	erased := func(address string) bool {
		return address == id.String() || id.User == "" && strings.HasSuffix(address, "@"+id.Domain)
	}
	put := func(key, value []byte) { ops = append(ops, store.Op{Key: slices.Clone(key), Value: value}) }
	doubted := map[string]bool{} // keys of the remaining members of such groups
	// The records come in the order of their keys, so a domain's groups before its users.
	err = s.Scan([]byte(store.Roster), func(key, value []byte) bool {
		domain, rest, _ := strings.Cut(string(key[len(store.Roster):]), "\x00")
		kind, name, _ := strings.Cut(rest, "\x00")
		whole := id.User == "" && domain == id.Domain
		switch kind {
		case "group":
			g, err := decodeGroup(value)
			if !whole && (err != nil || !slices.ContainsFunc(g.Members, erased)) {
				return true
			}
			n.Groups++
			g.Members, g.Dirty = slices.DeleteFunc(g.Members, erased), true
			if whole || len(g.Members) == 0 {
				put(key, nil)
				return true
			}
			put(key, g.encode())
			for _, address := range g.Members {
				doubted[string(State{Domain: domain}.userKey(identity(address)))] = true
			}
		case "user":
			u, err := decodeUser(value)
			switch {
			case whole || erased(name):
				n.Users++
				put(key, nil)
			case err == nil && doubted[string(key)] && u.Hash != (Hash{}):
				u.Hash = Hash{}
				put(key, u.encode())
			}
		default:
			if whole {
				put(key, nil)
			}
		}
		return true
	})
	return ops, n, err
}
