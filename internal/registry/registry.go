// Package registry keeps the domains that are not in the configuration file: a hoster registers
// them at run time, by command or in lists. Each has one Record, which is a text of a few fields
// with a backend of its own. The registry stores records under the domain's canonical name and
// every change is durable when it returns, since the command reports it as done.
//
// Lists of records are read and written as tab-separated text or JSON, also with the column names
// of xcauth's table, so that a registry can be moved from there. An import is all or nothing: it
// names every line that is wrong, and stores none if one is. Secrets are exported only on
// request, and an import without them keeps the stored ones. No error shows a secret or a URL.
package registry

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"postern/internal/auth"
	"postern/internal/store"
)

// Registry is the set of registered domains in a store. Its changes are on disk when it returns.
type Registry struct {
	store store.Store
	mu    sync.Mutex // held from reading a record to writing its change
}

// New returns the registry of a store.
func New(s store.Store) *Registry { return &Registry{store: s} }

func key(domain string) []byte { return []byte(store.Domains + domain) }

// Get returns the record of a domain in canonical form. The error wraps ErrUnknown if it is not
// registered.
func (r *Registry) Get(domain string) (Record, error) {
	b, err := r.store.Get(key(domain))
	if errors.Is(err, store.ErrNotFound) {
		return Record{}, fmt.Errorf("%s: %w", domain, ErrUnknown)
	}
	if err != nil {
		return Record{}, fmt.Errorf("registry: %w", err)
	}
	return Decode(domain, b)
}

// Put merges records with the stored ones, all of them or none, and returns the stored records.
func (r *Registry) Put(now time.Time, records ...Record) ([]Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.put(now, records)
}

func (r *Registry) put(now time.Time, records []Record) ([]Record, error) {
	merged := make([]Record, len(records))
	ops := make([]store.Op, len(records))
	for i := range records {
		var old *Record
		switch was, err := r.Get(records[i].Domain); {
		case err == nil:
			old = &was
		case errors.Is(err, ErrUnknown), errors.Is(err, ErrRecord): // a damaged record is replaced
		default:
			return nil, err
		}
		merged[i] = Merge(old, records[i], now)
		if err := merged[i].Check(); err != nil {
			return nil, err
		}
		ops[i] = store.Op{Key: key(merged[i].Domain), Value: merged[i].Encode()}
	}
	if err := r.store.Apply(ops, true); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return merged, nil
}

// Add registers a domain that is not registered yet.
func (r *Registry) Add(now time.Time, record Record) (Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.Get(record.Domain); err == nil {
		return Record{}, fmt.Errorf("%s is registered already: change it with `postern domain set`", record.Domain)
	}
	stored, err := r.put(now, []Record{record})
	if err != nil {
		return Record{}, err
	}
	return stored[0], nil
}

// Change is a change of a record by `domain set`. Fields that are nil are not changed.
type Change struct {
	Kind, URL, AuthDomain, Contact *string
	Secret                         *auth.Secret
}

// Apply returns the changed record. With another kind of backend, the fields that only the former
// one had are dropped.
func (c Change) Apply(r Record) Record {
	if c.Kind != nil && *c.Kind != r.Kind {
		r.Kind, r.Secret = *c.Kind, auth.Secret{}
		if r.Kind == KindUsers {
			r.URL = ""
		}
	}
	for _, f := range []struct{ to, from *string }{{&r.URL, c.URL}, {&r.AuthDomain, c.AuthDomain}, {&r.Contact, c.Contact}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if c.Secret != nil {
		r.Secret = *c.Secret
	}
	return r
}

// Delete removes a domain, and before it what is cached of its users: they must not get in when
// another owner registers the name. The error wraps ErrUnknown if it is not registered.
func (r *Registry) Delete(domain string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.Get(domain); err != nil && !errors.Is(err, ErrRecord) {
		return err
	}
	if err := r.store.DeletePrefix(store.CredentialsOf(domain)); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	if err := r.store.Apply([]store.Op{{Key: key(domain)}}, true); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

// List returns up to limit records in the order of their names, beginning after a name. An
// unreadable record has its name only.
func (r *Registry) List(after string, limit int) (list []Record, err error) {
	err = r.store.Scan([]byte(store.Domains), func(k, value []byte) bool {
		domain := string(k[len(store.Domains):])
		if domain <= after {
			return true
		}
		record, err := Decode(domain, value)
		if err != nil {
			record = Record{Domain: domain}
		}
		list = append(list, record)
		return len(list) < limit
	})
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return list, nil
}

// Names calls fn for every registered domain, in order.
func (r *Registry) Names(fn func(string)) error {
	err := r.store.Scan([]byte(store.Domains), func(k, _ []byte) bool {
		fn(string(k[len(store.Domains):]))
		return true
	})
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}
