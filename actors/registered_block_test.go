package actors

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
)

// blockOf adds a domain block like the first one.
func blockOf(name string) func(*config.Config) {
	return func(c *config.Config) {
		own := c.Domains[0]
		own.Name = name
		c.Domains = append(slices.Clip(c.Domains), own)
	}
}

// TestRegisteredAfterItsBlock: a name that is registered right after a reload took its block away is
// served at once. What its block's last request comes to is answered, and not remembered.
func TestRegisteredAfterItsBlock(t *testing.T) {
	for name, fallback := range map[string]bool{"alone": false, "with a fallback": true} {
		t.Run(name, func(t *testing.T) {
			held := newBarrier()
			r, _, _ := newRegisteredRig(t, func(s *setup) {
				if fallback {
					blockOf("*")(s.cfg)
				}
				blockOf("a.example")(s.cfg)
				s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
					if q.User == "slow" {
						held.ask(ctx, q)
						return backend.Result{Class: backend.Accepted}
					}
					return goodPassword(q)
				}
			})
			slow := r.startRequest(at("a.example", "slow", "block's"), 20*time.Second)
			held.reached(t, 1)
			r.reload(func(c *config.Config) { c.Domains = c.Domains[:len(c.Domains)-1] })
			r.register(registration("a.example", "registered"))
			r.want(r.at("a.example", "joe", "registered"), allow, fromBackend)
			held.open()
			r.want(<-slow, allow, fromBackend)
			r.want(r.at("a.example", "slow", "block's"), deny, fromBackend)
		})
	}
}

// TestBlockAfterRegistered: a reload gives a block to a name that was removed from the registered
// ones and still answers a request. The request's yes is not remembered.
func TestBlockAfterRegistered(t *testing.T) {
	held := newBarrier()
	r, e, _ := newRegisteredRig(t, nil, "a.example")
	e.hold = func(ctx context.Context) { held.ask(ctx, backend.Query{}) }
	slow := r.startRequest(at("a.example", "slow", "good"), 20*time.Second)
	held.reached(t, 1)
	r.unregister("a.example")
	r.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
		if q.Secret.Reveal() == "block's" {
			return backend.Result{Class: backend.Accepted}
		}
		return backend.Result{Class: backend.Refused}
	}
	r.reload(blockOf("a.example"))
	r.want(r.at("a.example", "joe", "block's"), allow, fromBackend)
	held.open()
	r.want(<-slow, allow, fromBackend)
	r.want(r.at("a.example", "slow", "good"), deny, fromBackend)
	eventually(t, "the end of the registered domain", func() bool { return e.open() == 0 })
}

// TestRefusalOutlivesItsDomain: a password that is refused when its domain is not served any more
// gets no grace when the name comes back.
func TestRefusalOutlivesItsDomain(t *testing.T) {
	var refuses atomic.Bool
	held := newBarrier()
	r, _, _ := newRegisteredRig(t, func(s *setup) {
		s.cfg.Registry.Cache.Storage = config.StorageDisk
		s.made = func(config.Backend) *fakeBackend {
			return &fakeBackend{ask: func(ctx context.Context, q backend.Query) backend.Result {
				if refuses.Load() {
					held.ask(ctx, q)
					return backend.Result{Class: backend.Refused}
				}
				return goodPassword(q)
			}}
		}
	}, "a.example")
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	r.kept("a.example", "joe")
	r.clock.advance(2 * time.Hour)
	refuses.Store(true)
	slow := r.startRequest(at("a.example", "joe", "good"), 20*time.Second)
	held.reached(t, 1)
	r.unregister("a.example")
	held.open()
	r.want(<-slow, deny, fromBackend)
	r.fake.ask = outage
	r.reload(func(c *config.Config) {
		blockOf("a.example")(c)
		c.Domains[len(c.Domains)-1].Cache.Storage = config.StorageDisk
	})
	if a := r.at("a.example", "joe", "good"); a.Verdict == allow {
		t.Errorf("answered %v (%v)", a.Verdict, a.Source)
	}
}

// stuckStore is a store that holds writes of users while it is stuck, until it is released.
type stuckStore struct {
	store.Store
	stuck   atomic.Bool
	reached chan struct{}
	free    chan struct{}
	release func() // once
}

func newStuckStore(s store.Store) *stuckStore {
	d := &stuckStore{Store: s, reached: make(chan struct{}, 64), free: make(chan struct{})}
	d.release = sync.OnceFunc(func() { d.stuck.Store(false); close(d.free) })
	return d
}

func (d *stuckStore) Apply(ops []store.Op, sync bool) error {
	if d.stuck.Load() && bytes.HasPrefix(ops[0].Key, []byte(store.Credentials)) {
		d.reached <- struct{}{}
		<-d.free
	}
	return d.Store.Apply(ops, sync)
}

// newStuckRig is a rig with a.example registered, where joe is known. Its router has been ended, and
// the disk is stuck with what is to be written of joe.
func newStuckRig(t *testing.T) (*rig, *stuckStore) {
	t.Helper()
	var disk *stuckStore
	r, _, _ := newRegisteredRig(t, func(s *setup) {
		s.cfg.Registry.Cache.Storage = config.StorageDisk
		disk = newStuckStore(s.store)
		s.store = disk
	}, "a.example")
	t.Cleanup(disk.release) // before the rig stops
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	r.kept("a.example", "joe")
	r.clock.advance(10 * time.Minute)
	r.want(r.at("a.example", "joe", "good"), allow, hot) // which is not on disk yet
	disk.stuck.Store(true)
	r.endIdle("a.example")
	<-disk.reached
	return r, disk
}

// TestStuckDisk: while the disk is stuck with the last writes of a domain, the next router of the name
// answers all the same, and what it reads is what was to be written.
func TestStuckDisk(t *testing.T) {
	r, disk := newStuckRig(t)
	r.clock.advance(55 * time.Minute) // too long since the use that is on disk, not since the last one
	r.want(r.at("a.example", "joe", "good"), allow, auth.SourceCache)
	disk.release()
}

// TestRemovedWhileStuck: a removal waits for a stuck disk, and what the domain had learnt is gone
// afterwards, also for one that is registered anew, and for a block in its place.
func TestRemovedWhileStuck(t *testing.T) {
	for name, again := range map[string]func(*rig){
		"registered": func(r *rig) { r.register(registration("a.example", "good")) },
		"a block": func(r *rig) {
			r.reload(func(c *config.Config) {
				blockOf("a.example")(c)
				c.Domains[len(c.Domains)-1].Cache.Storage = config.StorageDisk
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, disk := newStuckRig(t)
			removed := make(chan struct{})
			go func() {
				defer close(removed)
				r.unregister("a.example")
			}()
			eventually(t, "the removal", func() bool { known, _ := r.table.Registered(); return known == 0 })
			select {
			case <-removed:
				t.Error("the removal did not wait for the disk")
			default:
			}
			disk.release()
			<-removed
			again(r)
			r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
		})
	}
}

// kept waits until a user is known with a hash.
func (r *rig) kept(domain, user string) {
	r.t.Helper()
	eventually(r.t, "the hashing", func() bool {
		u, err := r.CachedUser(context.Background(), auth.Identity{User: user, Domain: domain})
		return err == nil && len(u.Verifiers) == 1 && u.Verifiers[0].Hash != ""
	})
	r.written()
}

// TestRegisterBesideBlock: registering a name that has a block leaves the block's records on disk,
// wherever the fallback and the registered domains keep theirs.
func TestRegisterBesideBlock(t *testing.T) {
	for _, c := range []struct{ fallback, registered config.Storage }{
		{config.StorageMemory, config.StorageDisk}, {config.StorageDisk, config.StorageMemory},
	} {
		t.Run(string(c.fallback)+" and "+string(c.registered), func(t *testing.T) {
			r, _, disk := newRegisteredRig(t, func(s *setup) {
				besideFallback(s)
				blockOf("a.example")(s.cfg)
				s.cfg.Domains[1].Cache.Storage = c.fallback
				s.cfg.Domains[2].Cache.Storage = config.StorageDisk
				s.cfg.Registry.Cache.Storage = c.registered
			})
			r.want(r.at("a.example", "joe", fallbackPassword), allow, fromBackend)
			record := func() error {
				_, err := disk.Get(cache.RecordKey(auth.Identity{User: "joe", Domain: "a.example"}))
				return err
			}
			r.kept("a.example", "joe") // the hash is written last
			r.written()
			if err := record(); err != nil {
				t.Fatalf("joe on disk: %v", err)
			}
			r.register(registration("a.example", "own"))
			if err := record(); err != nil {
				t.Errorf("joe on disk: %v", err)
			}
		})
	}
}

// TestRegisterBesideMove: what the fallback had asked before a block took a name over still counts
// against the password, also when the name is registered meanwhile.
func TestRegisterBesideMove(t *testing.T) {
	held := newBarrier()
	var asked atomic.Int64
	r, _, _ := newRegisteredRig(t, func(s *setup) {
		blockOf("*")(s.cfg)
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			switch asked.Add(1) {
			case 1:
				return backend.Result{Class: backend.Accepted}
			case 2:
				held.ask(ctx, q)
				return backend.Result{Class: backend.Refused}
			}
			return outage(ctx, q)
		}
	})
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	r.clock.advance(2 * time.Hour)
	slow := r.startRequest(at("a.example", "joe", "good"), 20*time.Second)
	held.reached(t, 1)
	r.reload(blockOf("a.example"))
	r.register(registration("a.example", "own"))
	held.open()
	r.want(<-slow, deny, fromBackend)
	r.clock.advance(time.Hour) // the refusal itself is forgotten
	r.want(r.at("a.example", "joe", "good"), unavailable, fromBackend)
}
