package actors

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// soon is less time than a login gets that waits for something that a test holds up.
const soon = 300 * time.Millisecond

// late is a login that nobody can answer in its time.
func (r *rig) late(domain, user, password string) {
	r.t.Helper()
	r.want(r.Ask(context.Background(), at(domain, user, password), soon).Answer, cannot, auth.SourceDeadline)
}

// lives counts the routers of a domain's name, of which each life has one.
func (r *rig) lives(name string) (n int) {
	for _, line := range r.Tree() {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "/router ") &&
			(strings.HasPrefix(line, "domain:"+name+"/") || strings.HasPrefix(line, "registered:"+name+"#")) {
			n++
		}
	}
	return n
}

// blockOf adds a domain block like the first one.
func blockOf(name string) func(*config.Config) {
	return func(c *config.Config) {
		own := c.Domains[0]
		own.Name = name
		c.Domains = append(slices.Clip(c.Domains), own)
	}
}

// TestRegisteredAfterItsBlock: a name that is registered right after a reload took its block away
// is not served before the block's last request is answered, so that no two remember its users.
func TestRegisteredAfterItsBlock(t *testing.T) {
	for name, fallback := range map[string]bool{"alone": false, "with a fallback": true} {
		t.Run(name, func(t *testing.T) {
			held := newGate()
			var block atomic.Pointer[domain]
			r, _, _ := newEstate(t, func(s *setup) {
				if fallback {
					blockOf("*")(s.cfg)
				}
				blockOf("a.example")(s.cfg)
				s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
					if q.User == "slow" {
						return held.ask(ctx, q)
					}
					return goodPassword(q)
				}
				made := s.made
				s.made = func(c config.Backend) *fakeBackend {
					if !block.Load().over() {
						t.Error("the registered domain begins beside its block")
					}
					return made(c)
				}
			})
			slow := r.startRequest(at("a.example", "slow", "good"), 20*time.Second)
			held.reached(t, 1)
			block.Store(r.table.Load().domains["a.example"])
			r.reload(func(c *config.Config) { c.Domains = c.Domains[:len(c.Domains)-1] })
			r.register(tenancy("a.example", "good"))
			r.late("a.example", "joe", "good")
			if n := r.lives("a.example"); n != 1 {
				t.Errorf("a.example lives %d times", n)
			}
			held.open()
			r.want(<-slow, allow, fromBackend)
			r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
			if n := r.lives("a.example"); n != 1 {
				t.Errorf("in the end a.example lives %d times", n)
			}
		})
	}
}

// TestBlockAfterRegistered: a reload gives no block to a name that was removed from the registered
// ones and still answers a request.
func TestBlockAfterRegistered(t *testing.T) {
	held := newGate()
	r, e, _ := newEstate(t, nil, "a.example")
	e.hold = func(ctx context.Context) { held.ask(ctx, backend.Query{}) }
	slow := r.startRequest(at("a.example", "slow", "good"), 20*time.Second)
	held.reached(t, 1)
	was := r.tenants.get("a.example").live.Load()
	r.unregister("a.example")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Reload(ctx, Reload{Config: r.altered(blockOf("a.example"))}); !errors.Is(err, ErrReload) {
		t.Errorf("a block was started beside the registered domain: %v", err)
	}
	held.open()
	r.want(<-slow, allow, fromBackend)
	r.reload(blockOf("a.example"))
	if !was.over() {
		t.Error("the registered domain has not ended")
	}
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
}

// stuckStore is a store whose writes of users do not end, while it is stuck, before they are freed.
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

// stuckTenant is a rig with a.example registered, where joe is known. Its actors are being stopped,
// and one of them is stuck with what it has to write of him.
func stuckTenant(t *testing.T) (*rig, *stuckStore) {
	t.Helper()
	var disk *stuckStore
	r, _, _ := newEstate(t, func(s *setup) {
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
	// Not by the broker, as if it had begun to stop them long ago: a question whether somebody has
	// stopped is answered at once while he is stopping.
	r.sys.Root.Stop(r.tenants.get("a.example").live.Load().supervisor)
	<-disk.reached
	r.lull("a.example")
	return r, disk
}

// TestStuckShard: while a shard is stuck with its last writes, nothing takes its domain's place,
// neither the next life of the domain nor one that is registered anew, nor a block.
func TestStuckShard(t *testing.T) {
	for name, change := range map[string]func(*rig){
		"the next life": func(*rig) {},
		"removed and registered": func(r *rig) {
			r.unregister("a.example")
			r.register(tenancy("a.example", "good"))
		},
		"removed, for a block": func(r *rig) {
			r.unregister("a.example")
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if _, err := r.Reload(ctx, Reload{Config: r.altered(blockOf("a.example"))}); !errors.Is(err, ErrReload) {
				r.t.Errorf("the block was started: %v", err)
			}
			r.register(tenancy("a.example", "good"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, disk := stuckTenant(t)
			change(r)
			r.late("a.example", "joe", "good")
			if n := r.lives("a.example"); n != 1 {
				t.Errorf("a.example lives %d times", n)
			}
			disk.release()
			r.want(r.at("a.example", "joe", "good"), allow, auth.SourceCache)
		})
	}
}

// kept waits until a user is known with his hash.
func (r *rig) kept(domain, user string) {
	r.t.Helper()
	eventually(r.t, "the hashing", func() bool {
		u, err := r.CachedUser(context.Background(), auth.Identity{User: user, Domain: domain})
		return err == nil && len(u.Verifiers) == 1 && u.Verifiers[0].Hash != ""
	})
}

// lull lets a registered domain fall asleep, as if nobody had asked for a while.
func (r *rig) lull(name string) {
	r.t.Helper()
	t := r.tenants.get(name)
	eventually(r.t, "the sleep", func() bool {
		r.shape.Lock()
		defer r.shape.Unlock()
		r.sleep(t, time.Now().UnixNano())
		return t.live.Load() == nil
	})
}
