package roster

import (
	"errors"
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/store"
)

// recordVersion is the first byte of every stored value.
const recordVersion = 1

// errRecord is returned for a value that is no record of this version.
var errRecord = errors.New("roster record is damaged or of another version")

// User is the known state of a user on the XMPP server.
type User struct {
	Named  bool
	Name   string
	Groups []string // sorted; given by the user's own answers
	Hash   Hash     // of the last answer that was applied as a whole; zero: none
}

// Group is the known state of a group on the XMPP server. A dirty group is being changed, or was
// when something failed: each of its members may or may not be on the server.
type Group struct {
	Members []string // addresses, sorted
	Dirty   bool
}

// State is the stored state of one domain's rosters.
type State struct {
	Store  store.Store
	Domain string
}

// Prefix is that of all keys of the domain.
func (s State) Prefix() []byte { return []byte(store.Roster + s.Domain + "\x00") }

func (s State) userKey(id auth.Identity) []byte { return append(s.Prefix(), "user\x00"+id.String()...) }
func (s State) groupKey(name string) []byte     { return append(s.Prefix(), "group\x00"+name...) }

// User returns the record of a user, empty if there is none.
func (s State) User(id auth.Identity) (u User, err error) {
	_, err = s.read(s.userKey(id), func(b []byte) (err error) { u, err = decodeUser(b); return err })
	return u, err
}

// Group returns the record of a group; known is false if there is none.
func (s State) Group(name string) (g Group, known bool, err error) {
	known, err = s.read(s.groupKey(name), func(b []byte) (err error) { g, err = decodeGroup(b); return err })
	return g, known, err
}

// read decodes a record. A damaged one is treated as absent: its steps are repeated, which does no
// harm.
func (s State) read(key []byte, decode func([]byte) error) (known bool, err error) {
	value, err := s.Store.Get(key)
	if err == nil {
		err = decode(value)
	}
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, errRecord) {
		return false, nil
	}
	return err == nil, err
}

func (s State) putUser(id auth.Identity, u *User) store.Op {
	return store.Op{Key: s.userKey(id), Value: u.encode()}
}

func (s State) putGroup(name string, g *Group) store.Op {
	return store.Op{Key: s.groupKey(name), Value: g.encode()}
}

// All reads every record of the domain.
func (s State) All() (users map[string]User, groups map[string]Group, err error) {
	users, groups = map[string]User{}, map[string]Group{}
	prefix := s.Prefix()
	err = s.Store.Scan(prefix, func(key, value []byte) bool {
		addRecord(users, groups, string(key[len(prefix):]), value)
		return true
	})
	return users, groups, err
}

func addRecord(users map[string]User, groups map[string]Group, key string, value []byte) {
	kind, name, _ := strings.Cut(key, "\x00")
	switch kind {
	case "user":
		if u, err := decodeUser(value); err == nil {
			users[name] = u
		}
	case "group":
		if g, err := decodeGroup(value); err == nil {
			groups[name] = g
		}
	}
}

// Forget returns the changes that make the known state of a domain, or of one user only, doubtful, so
// that the next answers are applied anew. Names and hashes are forgotten and groups made dirty. The
// members of groups are kept, or those that have left since would never be removed.
func (s State) Forget(only *auth.Identity) (ops []store.Op, err error) {
	users, groups, err := s.All()
	if err != nil {
		return nil, err
	}
	for address, u := range users {
		if only == nil || address == only.String() {
			u.Named, u.Name, u.Hash = false, "", Hash{}
			ops = append(ops, store.Op{Key: append(s.Prefix(), "user\x00"+address...), Value: u.encode()})
		}
	}
	for name, g := range groups {
		if only == nil || slices.Contains(g.Members, only.String()) {
			g.Dirty = true
			ops = append(ops, s.putGroup(name, &g))
		}
	}
	return ops, nil
}

// Logins lists the users with an applied answer of their own, sorted.
func (s State) Logins() (ids []auth.Identity, err error) {
	users, _, err := s.All()
	for address, u := range users {
		if u.Hash != (Hash{}) || len(u.Groups) > 0 {
			ids = append(ids, identity(address))
		}
	}
	slices.SortFunc(ids, func(a, b auth.Identity) int { return strings.Compare(a.String(), b.String()) })
	return ids, err
}

// ImportUser returns the changes that take over a user's state from another program; none if the
// user is known already. u.Groups are sorted.
func (s State) ImportUser(id auth.Identity, u User) ([]store.Op, error) {
	id = Login(id)
	_, err := s.Store.Get(s.userKey(id))
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return []store.Op{s.putUser(id, &u)}, nil
}

// ImportGroup does the same for a group. Its members may or may not be on the server, since xcauth
// noted them even if its commands had failed. So the group is dirty, and the server is asked before
// it is next compared.
func (s State) ImportGroup(name string, members []string) ([]store.Op, error) {
	_, err := s.Store.Get(s.groupKey(name))
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	g := Group{Dirty: true}
	for _, address := range members {
		g.Members = append(g.Members, fold(address))
	}
	slices.Sort(g.Members)
	g.Members = slices.Compact(g.Members)
	return []store.Op{s.putGroup(name, &g)}, nil
}

const (
	flagNamed = 1 << iota
	flagHashed
	flagDirty
)

// encode lays out a record: version, flags, full name and hash where there is one, then the
// groups, each text after its length.
func (u *User) encode() []byte {
	b := []byte{recordVersion, 0}
	if u.Named {
		b[1] |= flagNamed
		b = store.AppendText(b, u.Name)
	}
	if u.Hash != (Hash{}) {
		b[1] |= flagHashed
		b = append(b, u.Hash[:]...)
	}
	return appendTexts(b, u.Groups)
}

func decodeUser(b []byte) (u User, err error) {
	r := store.ReadValue(b, recordVersion)
	flags := r.Byte()
	if flags&flagNamed != 0 {
		u.Named, u.Name = true, r.Text()
	}
	if flags&flagHashed != 0 {
		copy(u.Hash[:], r.Bytes(uint64(len(u.Hash))))
	}
	if u.Groups = readTexts(r); !r.OK() {
		return User{}, errRecord
	}
	return u, nil
}

func (g *Group) encode() []byte {
	b := []byte{recordVersion, 0}
	if g.Dirty {
		b[1] |= flagDirty
	}
	return appendTexts(b, g.Members)
}

func decodeGroup(b []byte) (g Group, err error) {
	r := store.ReadValue(b, recordVersion)
	g.Dirty = r.Byte()&flagDirty != 0
	if g.Members = readTexts(r); !r.OK() {
		return Group{}, errRecord
	}
	return g, nil
}

func appendTexts(b []byte, texts []string) []byte {
	for _, t := range texts {
		b = store.AppendText(b, t)
	}
	return b
}

// readTexts reads what is left of a value.
func readTexts(r *store.ValueReader) (texts []string) {
	for r.More() {
		texts = append(texts, r.Text())
	}
	return texts
}
