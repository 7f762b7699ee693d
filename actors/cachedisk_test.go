package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/memory"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
)

// cached is what the cache holds of a user of the rig's domain.
func (r *rig) cached(user string) cache.User {
	r.t.Helper()
	u, err := r.CachedUser(context.Background(), auth.Identity{User: user, Domain: "dom.example"})
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

// hashed waits until the cache holds so many verifiers of a user, each with its hash.
func (r *rig) hashed(user string, verifiers int) {
	r.t.Helper()
	eventually(r.t, "the hashing", func() bool {
		u, err := r.CachedUser(context.Background(), auth.Identity{User: user, Domain: "dom.example"})
		if err != nil {
			return false // the shard is being restarted
		}
		for _, v := range u.Verifiers {
			if v.Hash == "" {
				return false
			}
		}
		return len(u.Verifiers) == verifiers
	})
}

// written waits until what the cache has put is on disk.
func (r *rig) written() {
	r.t.Helper()
	done := make(chan error, 1)
	r.env.Disk().Flush(func(err error) { done <- err })
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
}

// onDiskOf is the record of a user in a store, or nil.
func onDiskOf(t *testing.T, s store.Store, user string) *cache.User {
	t.Helper()
	return recordOf(t, s, auth.Identity{User: user, Domain: "dom.example"})
}

// recordOf is what a store has of a user of any domain; nil if that is nothing.
func recordOf(t *testing.T, s store.Store, id auth.Identity) *cache.User {
	t.Helper()
	record, err := s.Get(cache.RecordKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	u, err := cache.Decode(record)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// restarter starts brokers one after another on one store and one clock.
type restarter struct {
	t     *testing.T
	disk  store.Store
	clock *clock
	last  *rig
}

func newRestarter(t *testing.T) *restarter {
	return &restarter{t: t, disk: openStore(t), clock: &clock{}}
}

// next stops the last broker and starts another.
func (l *restarter) next(ask func(context.Context, backend.Query) backend.Result) *rig {
	l.t.Helper()
	if l.last != nil {
		l.last.stop()
	}
	l.last = newRig(l.t, func(s *setup) {
		withTokens(s)
		onDisk(s, l.disk)
		s.clock, s.fake.ask = l.clock, ask
	})
	return l.last
}

// TestRestart: after a restart the first login is compared with the stored hash, the second
// with memory, and the backend is asked for neither.
func TestRestart(t *testing.T) {
	for name, password := range map[string]string{
		"short": "good", "long": strings.Repeat("long ", 20) + "good", // bcrypt reads 72 bytes
	} {
		t.Run(name, func(t *testing.T) {
			g, l := newScriptedBackend(password), newRestarter(t)
			r := l.next(g.ask)
			r.want(r.auth("joe", password), allow, fromBackend)
			r.want(r.ask(isUser("ann")), allow, fromBackend)
			r.hashed("joe", 1)
			r = l.next(g.ask)
			r.want(r.auth("joe", password), allow, auth.SourceCache)
			r.want(r.auth("joe", password), allow, hot)
			r.want(r.ask(isUser("joe")), allow, hot)
			r.want(r.ask(isUser("ann")), allow, hot)
			if n := r.fake.asked.Load(); n != 0 {
				t.Errorf("the backend was asked %d times", n)
			}
			r.want(r.auth("joe", password+"x"), deny, fromBackend)
			r.want(r.auth("joe", password[:len(password)-1]), deny, fromBackend)
			r = l.next(outage)
			l.clock.advance(2 * hour)
			r.want(r.auth("joe", password), allow, grace)
			r.want(r.auth("joe", password+"x"), unavailable, fromBackend)
		})
	}
}

// TestLastUsedIsKept: what is written lazily is written at the latest when the broker stops.
func TestLastUsedIsKept(t *testing.T) {
	l := newRestarter(t)
	r := l.next(nil)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)
	l.clock.advance(50 * minute)
	r.want(r.auth("joe", "good"), allow, hot)
	r = l.next(nil)
	l.clock.advance(50 * minute)
	r.want(r.auth("joe", "good"), allow, auth.SourceCache)
}

// TestRefusalReachesTheDisk: a password that the backend has refused must not come back with
// a restart, neither if the broker knew it, nor if it knew its hash only.
func TestRefusalReachesTheDisk(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known %t", known), func(t *testing.T) {
			g, l := newScriptedBackend("good"), newRestarter(t)
			r := l.next(g.ask)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r.hashed("joe", 1)
			r.written()
			if !known {
				r = l.next(g.ask)
			}
			if u := onDiskOf(t, l.disk, "joe"); u == nil || len(u.Verifiers) != 1 {
				t.Fatalf("on disk is %+v", u)
			}
			g.change("better")
			l.clock.advance(2 * hour)
			r.want(r.auth("joe", "good"), deny, fromBackend)
			eventually(t, "the removal", func() bool {
				u := onDiskOf(t, l.disk, "joe")
				return u == nil || len(u.Verifiers) == 0
			})
			r = l.next(outage)
			r.want(r.auth("joe", "good"), unavailable, fromBackend)
		})
	}
}

// TestEviction: memory is bounded, an evicted user comes back from disk, and a stream of invented
// names evicts no user.
func TestEviction(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, func(s *setup) { onDisk(s, disk); s.cfg.Domains[0].Cache.HotEntries = 1 })
	shards := r.width()
	for i := range 40 * shards {
		r.want(r.auth(fmt.Sprint("user", i), "good"), allow, fromBackend)
		r.hashed(fmt.Sprint("user", i), 1)
	}
	if s := r.stats(); s.Users > 16*shards || s.Users < 16 { // the least that a shard holds
		t.Errorf("%d users in memory", s.Users)
	}
	r.want(r.auth("user0", "good"), allow, auth.SourceCache)
	for i := range 40 * shards {
		r.want(r.auth(fmt.Sprint("invented", i), "bad"), deny, fromBackend)
	}
	r.want(r.auth("user0", "good"), allow, hot)
	if s := r.stats(); s.Strangers > 16*shards {
		t.Errorf("%d strangers in memory", s.Strangers)
	}
}

// TestEvictionKeepsLastUsed: what only memory knows of a user is written before it is
// evicted.
func TestEvictionKeepsLastUsed(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, func(s *setup) { onDisk(s, disk); s.cfg.Domains[0].Cache.HotEntries = 1 })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)
	r.clock.advance(50 * minute)
	r.want(r.auth("joe", "good"), allow, hot)
	for i := range 40 * r.width() {
		r.want(r.ask(isUser(fmt.Sprint("user", i))), allow, fromBackend)
	}
	r.clock.advance(50 * minute)
	r.want(r.auth("joe", "good"), allow, auth.SourceCache)
}

// stats are those of the rig's domain.
func (r *rig) stats() memory.Stats {
	r.t.Helper()
	all, err := r.CacheStats(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return all["dom.example"]
}

// failingStore is a store that fails while failing is set.
type failingStore struct {
	store.Store
	failing atomic.Bool
}

var errStore = errors.New("input/output error")

func (s *failingStore) Get(key []byte) ([]byte, error) {
	if s.failing.Load() {
		return nil, errStore
	}
	return s.Store.Get(key)
}

func (s *failingStore) Apply(ops []store.Op, sync bool) error {
	if s.failing.Load() {
		return errStore
	}
	return s.Store.Apply(ops, sync)
}

func (s *failingStore) DeletePrefix(prefix []byte) error {
	if s.failing.Load() {
		return errStore
	}
	return s.Store.DeletePrefix(prefix)
}

// TestFailingStore: logins go on from memory, the log says so once, and once more when the store
// works again.
func TestFailingStore(t *testing.T) {
	disk := &failingStore{Store: openStore(t)}
	r := newRig(t, func(s *setup) { withTokens(s); onDisk(s, disk) })
	disk.failing.Store(true)
	for range 3 {
		for _, password := range []string{"good", "bad"} {
			first := r.auth("joe", password)
			r.want(r.auth("joe", password), first.Verdict, map[string]auth.Source{"good": hot, "bad": before}[password])
		}
		r.clock.advance(2 * hour)
	}
	r.want(r.auth("joe", r.totpToken("joe")), allow, auth.SourceToken)
	if err := r.ForgetUser(context.Background(), auth.Identity{User: "joe", Domain: "dom.example"}); !errors.Is(err, errStore) {
		t.Errorf("ForgetUser: %v", err)
	}
	log := r.log.String()
	if n := strings.Count(log, "level=ERROR msg=\"cache cannot be written"); n != 1 {
		t.Errorf("the log mentions the cache %d times: %s", n, log)
	}
	if !strings.Contains(log, "used token could not be stored") {
		t.Errorf("the log does not mention the token: %s", log)
	}
	if n := r.stats().StoreFailing; n != 1 {
		t.Errorf("%d shards count as failing", n)
	}
	disk.failing.Store(false)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	eventually(t, "the end of the failure", func() bool { return strings.Contains(r.log.String(), "cache can be written again") })
	if n := r.stats().StoreFailing; n != 0 {
		t.Errorf("%d shards count as failing", n)
	}
}

// TestNoStore: without a store, as when its directory is locked, the disk cache is one in
// memory.
func TestNoStore(t *testing.T) {
	r := newRig(t, func(s *setup) { s.cfg.Domains[0].Cache.Storage = config.StorageDisk })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.want(r.auth("joe", "good"), allow, hot)
	r.clock.advance(2 * time.Hour)
	r.want(r.auth("joe", "good"), allow, fromBackend)
}
