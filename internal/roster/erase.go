package roster

import (
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/store"
)

// Erased counts what Erase removes.
type Erased struct {
	Users  int // records of users
	Groups int // records of groups with one of them
}

// Erase returns the changes that remove a user from all domains' rosters, or, with an empty user
// name, a domain with its users. A group with one of them keeps its other members and
// becomes dirty, and their next answers are applied anew.
func Erase(s store.Store, id auth.Identity) (ops []store.Op, n Erased, err error) {
	id = Login(id)
	e := eraser{hit: func(address string) bool {
		if id.User == "" {
			return strings.HasSuffix(address, "@"+id.Domain)
		}
		return address == id.String()
	}}
	err = s.Scan([]byte(store.Roster), func(key, value []byte) bool {
		domain, rest, _ := strings.Cut(string(key[len(store.Roster):]), "\x00")
		kind, name, _ := strings.Cut(rest, "\x00")
		gone := id.User == "" && domain == id.Domain
		switch kind {
		case "user":
			e.user(State{Domain: domain}, name, value, gone)
		case "group":
			e.group(State{Domain: domain}, name, value, gone)
		default:
			if gone {
				e.ops = append(e.ops, store.Op{Key: slices.Clone(key)})
			}
		}
		return true
	})
	return e.ops, e.n, err
}

// eraser visits the records in the order of their keys, so a domain's groups come before its users.
type eraser struct {
	hit     func(address string) bool
	ops     []store.Op
	n       Erased
	doubted map[string]bool // keys of the remaining members of such groups
}

func (e *eraser) group(s State, name string, value []byte, gone bool) {
	g, err := decodeGroup(value)
	if !gone && (err != nil || !slices.ContainsFunc(g.Members, e.hit)) {
		return
	}
	e.n.Groups++
	g.Members, g.Dirty = slices.DeleteFunc(g.Members, e.hit), true
	if gone || len(g.Members) == 0 {
		e.ops = append(e.ops, store.Op{Key: s.groupKey(name)})
		return
	}
	e.ops = append(e.ops, s.putGroup(name, &g))
	if e.doubted == nil {
		e.doubted = map[string]bool{}
	}
	for _, address := range g.Members {
		e.doubted[string(s.userKey(identity(address)))] = true
	}
}

func (e *eraser) user(s State, address string, value []byte, gone bool) {
	key := append(s.Prefix(), "user\x00"+address...)
	if gone || e.hit(address) {
		e.n.Users++
		e.ops = append(e.ops, store.Op{Key: key})
		return
	}
	if u, err := decodeUser(value); err == nil && e.doubted[string(key)] && u.Hash != (Hash{}) {
		u.Hash = Hash{}
		e.ops = append(e.ops, store.Op{Key: key, Value: u.encode()})
	}
}
