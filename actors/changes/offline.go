package changes

import (
	"time"

	"postern/internal/auth"
	"postern/internal/store"
)

// Times are the changes that a store has, of brokers that do not run.
type Times map[key]Change

// Load reads the changes in a store.
func Load(s store.Store) (Times, error) {
	t := make(Times)
	err := s.Scan([]byte(store.Changes), func(name, value []byte) bool {
		if k, c, ok := changeOf(name, value); ok {
			t[k] = c
		}
		return true
	})
	return t, err
}

// Missed returns when an account, its domain or all were last changed by what other has and t has not; the zero time: there
// is no such change.
func (t Times) Missed(other Times, id auth.Identity) (last time.Time) {
	for _, scope := range []key{keyOf(id), keyOf(auth.Identity{Domain: id.Domain}), keyOf(auth.Identity{})} {
		if at := other[scope].At; at.After(t[scope].At) && at.After(last) {
			last = at
		}
	}
	return last
}

// Lacking lists the writes that bring t what other has and it has not.
func (t Times) Lacking(other Times) (ops []store.Op) {
	for k, c := range other {
		if c.At.After(t[k].At) {
			name, value := record(k, c)
			ops = append(ops, store.Op{Key: name, Value: value})
		}
	}
	return ops
}
