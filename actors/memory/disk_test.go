package memory

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/domain"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// records is a store in memory; a test holds up its reads.
type records struct {
	mu   sync.Mutex
	all  map[string][]byte
	read func() // between a read and its return; nil: nothing
}

func (s *records) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	value, read := s.all[string(key)], s.read
	s.mu.Unlock()
	if read != nil {
		read()
	}
	if value == nil {
		return nil, store.ErrNotFound
	}
	return slices.Clone(value), nil
}

func (s *records) Apply(ops []store.Op, _ bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		s.all[string(op.Key)] = op.Value
		if op.Value == nil {
			delete(s.all, string(op.Key))
		}
	}
	return nil
}

func (s *records) DeletePrefix(prefix []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.all, func(key string, _ []byte) bool { return strings.HasPrefix(key, string(prefix)) })
	return nil
}

func (*records) Scan([]byte, func(key, value []byte) bool) error { return nil }
func (*records) Close() error                                    { return nil }

// verified is a store with a record of joe and his verified password.
func verified(t *testing.T, password string) *records {
	t.Helper()
	hash, err := passhash.New(auth.NewSecret(password).Reveal(), passhash.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	now := unixtime.At(time.Now())
	u := cache.User{Verifiers: []cache.Verifier{{By: vouching(), Hash: hash, First: now, Verified: now, Used: now}}}
	return &records{all: map[string][]byte{
		string(cache.RecordKey(auth.Identity{User: "joe", Domain: "dom.example"})): u.Encode(),
	}}
}

// TestReadAcrossStorage: a record that is being read when its domain is no longer kept on disk does not
// bring back a password that was refused since.
func TestReadAcrossStorage(t *testing.T) {
	disk := verified(t, "old")
	arrived, release := make(chan struct{}), make(chan struct{})
	disk.read = func() { arrived <- struct{}{}; <-release }
	r := newReplaceRig(t, disk)
	b := r.backend("one", always(backend.Refused))
	onDisk, inMemory := r.domain("dom.example", config.StorageDisk, b), r.domain("dom.example", config.StorageMemory, b)
	var now atomic.Pointer[domain.Domain]
	now.Store(onDisk)
	r.lookup = func(string) *domain.Domain { return now.Load() }
	first, second := r.ask(auth.OpAuth, "wrong", onDisk), r.ask(auth.OpAuth, "wrong too", onDisk)
	<-arrived
	if err := r.Settle(t.Context()); err != nil { // both wait for the record
		t.Fatal(err)
	}
	now.Store(inMemory)
	r.want(r.ask(auth.OpAuth, "old", inMemory), auth.Deny, auth.SourceBackend)
	close(release)
	r.want(first, auth.Deny, auth.SourceBackend)
	r.want(second, auth.Deny, auth.SourceBackend)
	r.want(r.ask(auth.OpAuth, "old", inMemory), auth.Deny, auth.SourceRefusedBefore)
	r.idle()
}

// TestRefusedBesideReload: a refusal is written also when another block answers for the name from the
// next moment on: it reads the record.
func TestRefusedBesideReload(t *testing.T) {
	r := newReplaceRig(t, verified(t, "old"))
	var refuses atomic.Bool
	b := r.backend("one", func(backend.Query) backend.Class {
		if refuses.Load() {
			return backend.Refused
		}
		return backend.Accepted
	})
	own, star := r.domain("dom.example", config.StorageDisk, b), r.domain("*", config.StorageDisk, b)
	own.Rules.Query = 0 // the backend is asked about a password that the cache knows
	var looks atomic.Int64
	looks.Store(1 << 32)
	r.lookup = func(string) *domain.Domain {
		if looks.Add(-1) >= 0 {
			return own
		}
		return star
	}
	r.want(r.ask(auth.OpAuth, "old", own), auth.Allow, auth.SourceBackend)
	r.idle()
	refuses.Store(true)
	looks.Store(2) // for the call, and for the backend's answer
	r.want(r.ask(auth.OpAuth, "old", own), auth.Deny, auth.SourceBackend)
	r.idle()
	r.DropBlock("dom.example")
	r.want(r.ask(auth.OpAuth, "old", star), auth.Deny, auth.SourceBackend)
}
