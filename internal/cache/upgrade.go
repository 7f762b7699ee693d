package cache

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"

	"postern/internal/auth"
	"postern/internal/store"
)

// Unclaimed is the key that a store has while Claim is due: records in it may have no authority yet.
const Unclaimed = store.Meta + "unclaimed"

// upgradeBatch is how many records are written at once.
const upgradeBatch = 1000

// maxMerged bounds the verifiers of a user that had several records.
const maxMerged = 16

// Open opens a store as store.OpenPebble does, and upgrades one of postern 0.1.0.
func Open(dir string, log *slog.Logger) (*store.Pebble, error) {
	p, err := store.OpenPebble(dir, log)
	if !errors.Is(err, store.ErrFormer) {
		return p, err
	}
	return store.UpgradePebble(dir, log, Upgrade)
}

// Upgrade rewrites the records of postern 0.1.0, which had one for each spelling of a user and knew
// neither accounts nor authorities; Claim gives them the latter. The spellings of a user get one
// record. If there were several, it is not known which passwords were changed meanwhile: each must be
// verified again, and has no grace. It can be repeated after it was interrupted.
func Upgrade(s store.Store) error {
	u := upgrade{store: s, groups: make(map[string][]*User), gone: make(map[string][][]byte)}
	if err := s.Apply([]store.Op{{Key: []byte(Unclaimed), Value: []byte{1}}}, true); err != nil {
		return err
	}
	err := s.Scan([]byte(store.Credentials), func(key, _ []byte) bool {
		if id, ok := RecordIdentity(key); ok && id != id.Fold() {
			u.groups[string(RecordKey(id))] = nil
		}
		return true
	})
	if err != nil {
		return err
	}
	if err := s.Scan([]byte(store.Credentials), u.record); err != nil || u.err != nil {
		return cmp.Or(u.err, err)
	}
	for key, users := range u.groups {
		u.ops = append(u.ops, store.Op{Key: []byte(key), Value: merged(users).Encode()})
		for _, old := range u.gone[key] {
			u.ops = append(u.ops, store.Op{Key: old})
		}
		if !u.flush(upgradeBatch) {
			return u.err
		}
	}
	u.flush(0)
	return u.err
}

// upgrade is the state of Upgrade.
type upgrade struct {
	store  store.Store
	groups map[string][]*User  // of the users with a spelling that is not folded, by key
	gone   map[string][][]byte // keys of their spellings
	ops    []store.Op
	err    error
}

// record rewrites a record, or keeps it for its group.
func (u *upgrade) record(key, value []byte) bool {
	id, ok := RecordIdentity(key)
	user := formerUser(id, value)
	if !ok || user == nil {
		u.ops = append(u.ops, store.Op{Key: slices.Clone(key)})
		return u.flush(upgradeBatch)
	}
	folded := string(RecordKey(id))
	if _, group := u.groups[folded]; !group {
		u.ops = append(u.ops, store.Op{Key: slices.Clone(key), Value: user.Encode()})
		return u.flush(upgradeBatch)
	}
	u.groups[folded] = append(u.groups[folded], user)
	if folded != string(key) {
		u.gone[folded] = append(u.gone[folded], slices.Clone(key))
	}
	return true
}

// flush writes what waits if it is more than most changes.
func (u *upgrade) flush(most int) bool {
	if len(u.ops) > most {
		u.err = u.store.Apply(u.ops, true)
		u.ops = nil
	}
	return u.err == nil
}

// formerUser reads a record of either version; nil if it is unreadable. Where the spelling is not
// the folded one, the backend is asked at the next use: its own is needed.
func formerUser(id auth.Identity, value []byte) *User {
	if user, err := Decode(value); err == nil {
		return user
	}
	user, err := decode(value, formerVersion)
	if err != nil {
		return nil
	}
	name := Name{Account: id.User, Exact: true}
	if user.Exists.Known {
		user.Exists.Name = name
	}
	for i := range user.Verifiers {
		v := &user.Verifiers[i]
		v.Name = name
		v.Stale = v.Stale || id != id.Fold()
	}
	return user
}

// merged is one user of the records of several spellings.
func merged(users []*User) *User {
	if len(users) == 1 {
		return users[0]
	}
	m := new(User)
	for _, u := range users {
		for _, v := range u.Verifiers {
			v.suspect()
			m.Verifiers = append(m.Verifiers, v)
		}
		if u.Exists.At >= m.Exists.At {
			m.Exists = u.Exists
		}
	}
	slices.SortStableFunc(m.Verifiers, func(a, b Verifier) int { return cmp.Compare(b.Used, a.Used) })
	m.Verifiers = m.Verifiers[:min(len(m.Verifiers), maxMerged)]
	return m
}

// Claim gives the records that Upgrade has written the authority that vouches for a domain now. It
// does nothing on a store where that is done. A record of a domain without one is good for nothing.
func Claim(s store.Store, whole func(domain string) (auth.Authority, bool)) error {
	if _, err := s.Get([]byte(Unclaimed)); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	}
	u := upgrade{store: s}
	domain, by, known := "", auth.Authority{}, false
	err := s.Scan([]byte(store.Credentials), func(key, value []byte) bool {
		id, _ := RecordIdentity(key)
		if id.Domain != domain {
			domain = id.Domain
			by, known = whole(domain)
		}
		user, err := Decode(value)
		if err == nil && known && user.claim(by.ID) {
			u.ops = append(u.ops, store.Op{Key: slices.Clone(key), Value: user.Encode()})
		}
		return u.flush(upgradeBatch)
	})
	u.ops = append(u.ops, store.Op{Key: []byte(Unclaimed)})
	if err = cmp.Or(u.err, err); err == nil {
		u.flush(0)
		err = u.err
	}
	return err
}

// claim gives what no authority has vouched for one, and reports whether there was something.
func (u *User) claim(by auth.AuthorityID) (changed bool) {
	none := auth.AuthorityID{}
	if u.Exists.Yes && u.Exists.By == none {
		u.Exists.By, changed = by, true
	}
	for i := range u.Verifiers {
		if v := &u.Verifiers[i]; v.By == none {
			v.By, changed = by, true
		}
	}
	return changed
}
