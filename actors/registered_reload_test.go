package actors

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/registry"
)

const fallbackPassword = "of the fallback"

// besideFallback adds a fallback with a password of its own.
func besideFallback(s *setup) {
	fallback := s.cfg.Domains[0]
	fallback.Name = "*"
	s.cfg.Domains = append(s.cfg.Domains, fallback)
	s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
		if q.Secret.Reveal() == fallbackPassword {
			return backend.Result{Class: backend.Accepted}
		}
		return backend.Result{Class: backend.Refused}
	}
}

// TestRegisteredFromFallback: a registered name is not the fallback's any more, nor is what a request
// that was begun there learns. A removed name is the fallback's again.
func TestRegisteredFromFallback(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
		t.Run(string(storage), func(t *testing.T) {
			held := newBarrier()
			r, _, disk := newRegisteredRig(t, func(s *setup) {
				besideFallback(s)
				for i := range s.cfg.Domains {
					s.cfg.Domains[i].Cache.Storage = storage
				}
				s.cfg.Registry.Cache.Storage = storage
				learn := s.fake.ask
				s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
					if q.User == "ann" {
						held.ask(ctx, q)
					}
					return learn(ctx, q)
				}
			})
			r.want(r.at("a.example", "joe", fallbackPassword), allow, fromBackend)
			begun := make(chan auth.Answer)
			go func() { begun <- r.at("a.example", "ann", fallbackPassword) }()
			held.reached(t, 1)
			r.register(registration("a.example", "own"))
			r.want(r.at("a.example", "ann", "own"), allow, fromBackend)
			held.open()
			r.want(<-begun, allow, fromBackend)
			r.want(r.at("a.example", "ann", fallbackPassword), deny, fromBackend)
			r.want(r.at("b.example", "joe", fallbackPassword), allow, fromBackend)
			if storage == config.StorageDisk {
				r.kept("a.example", "ann")
				eventually(t, "ann on disk", func() bool {
					u := recordOf(t, disk, auth.Identity{User: "ann", Domain: "a.example"})
					return u != nil && len(u.Verifiers) == 1 && u.Verifiers[0].Hash != ""
				})
			}
			r.unregister("a.example")
			r.want(r.at("a.example", "eve", fallbackPassword), allow, fromBackend)
			r.want(r.at("a.example", "ann", "own"), deny, fromBackend) // the removed domain's users are forgotten
		})
	}
}

// TestRegisteredBehindBlock: a block in the file goes before a registered domain, and when it is gone the
// registered one is there again; requests under way keep their answers.
func TestRegisteredBehindBlock(t *testing.T) {
	held := newBarrier()
	r, e, _ := newRegisteredRig(t, nil, "a.example")
	block := func(c *config.Config) {
		own := c.Domains[0]
		own.Name = "a.example"
		c.Domains = append(c.Domains, own)
	}
	none := func(c *config.Config) { c.Domains = c.Domains[:1] }
	r.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
		if q.User == "slow" {
			held.ask(ctx, q)
		}
		return backend.Result{Class: backend.Accepted}
	}
	r.want(r.at("a.example", "joe", "bad"), deny, fromBackend)
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	r.reload(block)
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend) // the block has another backend
	r.want(r.at("a.example", "joe", "bad"), allow, fromBackend)
	eventually(t, "the end of the registered domain", func() bool { return e.open() == 0 })
	r.register(registration("a.example", "better")) // without effect for now
	r.want(r.at("a.example", "ann", "any"), allow, fromBackend)
	slow := make(chan auth.Answer)
	go func() { slow <- r.at("a.example", "slow", "any") }()
	held.reached(t, 1)
	r.reload(none)
	next := make(chan auth.Answer)
	go func() { next <- r.at("a.example", "ann", "better") }() // beside the block's last request
	held.open()
	r.want(<-slow, allow, fromBackend)
	r.want(<-next, allow, fromBackend)
	r.want(r.at("a.example", "ann", "any"), deny, fromBackend)
	r.unregister("a.example")
	r.want(r.at("a.example", "ann", "better"), deny, auth.SourceUnknownDomain)
}

// TestRegisteredRules: another registry block counts for domains in use and for others.
func TestRegisteredRules(t *testing.T) {
	r, _, disk := newRegisteredRig(t, nil, "a.example", "b.example")
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	r.reload(func(c *config.Config) { c.Registry.Cache.Storage = config.StorageDisk })
	r.want(r.at("a.example", "ann", "good"), allow, fromBackend)
	r.want(r.at("b.example", "ann", "good"), allow, fromBackend)
	for _, domain := range []string{"a.example", "b.example"} {
		eventually(t, "ann on disk", func() bool {
			_, err := disk.Get(cache.RecordKey(auth.Identity{User: "ann", Domain: domain}))
			return err == nil
		})
	}
	r.reload(func(c *config.Config) { c.Registry.Idle = 20 * time.Millisecond })
	eventually(t, "both to be idle", func() bool { return r.liveDomains() == 0 })
	r.reload(func(c *config.Config) { c.Registry.Cache.Storage = config.StorageMemory })
	if _, err := disk.Get(cache.RecordKey(auth.Identity{User: "ann", Domain: "b.example"})); err == nil {
		t.Error("a record is left of a cache that is in memory now")
	}
}

// TestRegisteredStoreByReload: the store that a reload opens brings its registered domains.
func TestRegisteredStoreByReload(t *testing.T) {
	disk, e := openStore(t), &registeredBackends{made: make(map[string][]*fakeBackend)}
	if _, err := registry.New(disk).Put(time.Now(), registrations("a.example")...); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(s *setup) {
		besideFallback(s)
		s.made = e.make
	})
	r.want(r.at("a.example", "joe", fallbackPassword), allow, fromBackend)
	next := r.altered(func(c *config.Config) {
		c.Registry = config.Registry{Declared: true, Cache: c.Domains[0].Cache}
	})
	if _, err := r.Reload(context.Background(), Reload{Config: next, Store: disk}); err != nil {
		t.Fatal(err)
	}
	r.want(r.at("a.example", "joe", fallbackPassword), deny, fromBackend)
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
}

// TestRegisteredCache: what is asked and forgotten of the cache reaches domains without actors.
func TestRegisteredCache(t *testing.T) {
	r, _, disk := newRegisteredRig(t, func(s *setup) { s.cfg.Registry.Cache.Storage = config.StorageDisk }, "a.example", "b.example")
	ctx, joe := context.Background(), auth.Identity{User: "joe", Domain: "a.example"}
	known := func() bool { _, err := disk.Get(cache.RecordKey(joe)); return err == nil }
	login := func() {
		r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
		eventually(t, "joe on disk", known)
		r.endIdle("a.example")
	}
	login()
	if u, err := r.CachedUser(ctx, joe); err != nil || len(u.Verifiers) != 1 {
		t.Errorf("shown: %+v, %v", u, err)
	}
	for name, forget := range map[string]func() error{
		"user":   func() error { return r.ForgetUser(ctx, joe) },
		"domain": func() error { return r.ForgetDomain(ctx, "a.example") },
		"all":    func() error { return r.Flush(ctx) },
	} {
		if err := forget(); err != nil || known() {
			t.Errorf("%s: %v, on disk: %v", name, err, known())
		}
		login()
	}
	stats, err := r.CacheStats(ctx)
	if _, ok := stats["a.example"]; err != nil || ok {
		t.Errorf("a domain without actors has figures: %v, %v", stats, err)
	}
	if r.want(r.at("b.example", "joe", "good"), allow, fromBackend); r.liveDomains() != 1 {
		t.Error("b.example is not in use")
	}
	if stats, err = r.CacheStats(ctx); err != nil || stats["b.example"].BackendAsked != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
}

// TestRegisteredReloadStorm moves a name between its block, the registry and the fallback while
// it is asked for and becomes idle in between. All of them take the same password.
func TestRegisteredReloadStorm(t *testing.T) {
	r, _, _ := newRegisteredRig(t, func(s *setup) {
		s.cfg.Registry.Idle, s.level = time.Nanosecond, slog.LevelWarn
		beside(s.cfg)
		s.cfg.Domains = s.cfg.Domains[:1] // the fallback
	})
	var wg sync.WaitGroup
	end := make(chan struct{})
	var asked atomic.Int64
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
				}
				password, want := "good", allow
				if i%3 == 2 {
					password, want = "bad", deny
				}
				if a := r.at("a.example", fmt.Sprintf("u%d", (i+w)%7), password); a.Verdict != want {
					t.Errorf("%s: %v (%v)", password, a.Verdict, a.Source)
				}
				asked.Add(1)
			}
		})
	}
	var blocks []config.Domain
	for i := range 40 {
		switch i % 4 {
		case 0:
			r.register(registrations("a.example")...)
		case 1:
			r.reload(func(c *config.Config) {
				own := c.Domains[0]
				own.Name = "a.example"
				c.Domains = append(slices.Clone(c.Domains), own)
				blocks = c.Domains
			})
		case 2:
			r.reload(func(c *config.Config) { c.Domains = blocks[:1] })
		case 3:
			r.unregister("a.example")
		}
		n := asked.Load()
		eventually(t, "some requests", func() bool { return asked.Load() > n+20 })
	}
	close(end)
	wg.Wait()
}

// TestRegisteredReloadLimits: limits that change alone hold for the domains that are registered, too.
func TestRegisteredReloadLimits(t *testing.T) {
	r, _, _ := newRegisteredRig(t, nil, "live.example", "idle.example")
	r.want(r.at("live.example", "joe", "good"), allow, fromBackend)
	r.reload(func(c *config.Config) {
		c.Registry.Limit = config.Limit{UserRefusals: 2, Window: time.Hour, FirstPause: time.Hour, LongestPause: time.Hour}
	})
	for _, domain := range []string{"live.example", "idle.example"} {
		for i := range 2 {
			r.want(r.at(domain, "joe", fmt.Sprint("bad", i)), deny, fromBackend)
			r.quiesce()
		}
		r.want(r.at(domain, "joe", "bad"), unavailable, byUser)
	}
}

// TestRegisteredChangedAsleep: a registered domain that falls asleep just while its record is changed lets the
// new backend go.
func TestRegisteredChangedAsleep(t *testing.T) {
	var r *rig
	armed := false
	r, e, _ := newRegisteredRig(t, func(s *setup) {
		made := s.made
		s.cfg.Registry.Idle = 300 * time.Millisecond
		s.made = func(c config.Backend) *fakeBackend {
			if armed {
				armed = false
				eventually(t, "the sleep", func() bool { r.table.Tidy(); return r.liveDomains() == 0 })
			}
			return made(c)
		}
	}, "a.example")
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	armed = true
	r.register(registration("a.example", "new"))
	eventually(t, "the end of both backends", func() bool { return e.open() == 0 })
	r.want(r.at("a.example", "joe", "new"), allow, fromBackend)
}
