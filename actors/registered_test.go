package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/router"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/registry"
	"postern/internal/store"
)

// registeredBackends is the backends of registered domains. The good password of a domain is the name
// of the host in its URL.
type registeredBackends struct {
	mu   sync.Mutex
	made map[string][]*fakeBackend // by domain
	hold func(context.Context)     // what every question waits for
}

func (e *registeredBackends) make(c config.Backend) *fakeBackend {
	good := strings.TrimPrefix(c.URL, "http://")
	f := &fakeBackend{ask: func(ctx context.Context, q backend.Query) backend.Result {
		if e.hold != nil {
			e.hold(ctx)
		}
		if q.Op == auth.OpAuth && q.Secret.Reveal() != good {
			return backend.Result{Class: backend.Refused}
		}
		return backend.Result{Class: backend.Accepted}
	}}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.made[c.Name] = append(e.made[c.Name], f)
	return f
}

// open counts the backends that are not closed.
func (e *registeredBackends) open() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, list := range e.made {
		for _, f := range list {
			if !f.closed.Load() {
				n++
			}
		}
	}
	return n
}

// newRegisteredRig makes a rig with the named domains registered in its store. change may be nil.
func newRegisteredRig(t testing.TB, change func(*setup), names ...string) (*rig, *registeredBackends, store.Store) {
	t.Helper()
	disk, e := openStore(t), &registeredBackends{made: make(map[string][]*fakeBackend)}
	if _, err := registry.New(disk).Put(time.Now(), registrations(names...)...); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(s *setup) {
		s.cfg.Registry = config.Registry{Declared: true, Cache: s.cfg.Domains[0].Cache}
		s.store, s.made = disk, e.make
		if change != nil {
			change(s)
		}
	})
	t.Cleanup(func() {
		r.stop()
		if n := e.open(); n > 0 {
			t.Errorf("%d backends of registered domains were not closed", n)
		}
	})
	return r, e, disk
}

func registration(name, password string) registry.Record {
	return registry.Record{Domain: name, Kind: registry.KindJSON, URL: "http://" + password}
}

func registrations(names ...string) []registry.Record {
	list := make([]registry.Record, len(names))
	for i, name := range names {
		list[i] = registration(name, "good")
	}
	return list
}

func (r *rig) register(records ...registry.Record) {
	r.t.Helper()
	if err := r.Registry(func(reg *registry.Registry) ([]registry.Record, []string, error) {
		put, err := reg.Put(time.Now(), records...)
		return put, nil, err
	}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) unregister(name string) {
	r.t.Helper()
	if err := r.Registry(func(reg *registry.Registry) ([]registry.Record, []string, error) {
		return nil, []string{name}, reg.Delete(name)
	}); err != nil {
		r.t.Fatal(err)
	}
}

// liveDomains is how many registered domains are in use.
func (r *rig) liveDomains() int {
	_, live := r.table.Registered()
	return live
}

// starts is how often routers of registered domains were started, as the name of the next one says.
func (r *rig) starts(name string) int {
	r.t.Helper()
	for {
		r.at(name, "joe", "good")
		for _, line := range r.Tree() {
			if rest, ok := strings.CutPrefix(line, "registered:"+name+"#"); ok {
				n, _, _ := strings.Cut(rest, " ")
				starts, err := strconv.Atoi(n)
				if err != nil {
					r.t.Fatal(err)
				}
				return starts
			}
		}
	}
}

// endIdle ends the router of a registered domain, as if no call had come for a while.
func (r *rig) endIdle(name string) {
	r.t.Helper()
	idle := r.InForce().Registry.Idle
	r.reload(func(c *config.Config) { c.Registry.Idle = time.Nanosecond })
	eventually(r.t, "the end of an idle domain", func() bool { return !r.table.Served(name) })
	r.reload(func(c *config.Config) { c.Registry.Idle = idle })
}

// at asks for a login at a domain.
func (r *rig) at(domain, user, password string) auth.Answer {
	r.t.Helper()
	return r.ask(auth.Request{Op: auth.OpAuth, User: user, Domain: domain, Secret: auth.NewSecret(password)})
}

// TestRegistered: the actors of a registered domain are there from the first request on.
func TestRegistered(t *testing.T) {
	r, e, _ := newRegisteredRig(t, nil, "a.example", "b.example")
	before := len(r.actors())
	r.want(r.ask(auth.Request{Op: auth.OpIsDomain, Domain: "A.example"}), allow, hot)
	if len(r.actors()) != before || len(e.made) > 0 {
		t.Errorf("a domain without logins has actors: %q", r.actors())
	}
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	r.want(r.at("a.example", "joe", "good"), allow, hot)
	r.want(r.at("a.example", "joe", "bad"), deny, fromBackend)
	r.want(r.at("c.example", "joe", "good"), deny, auth.SourceUnknownDomain)
	if len(e.made) != 1 || len(e.made["a.example"]) != 1 {
		t.Errorf("backends were made for %d domains", len(e.made))
	}
	r.want(r.auth("joe", "good"), allow, fromBackend)
}

// TestRegisteredChanges: what is registered, changed and removed counts at once.
func TestRegisteredChanges(t *testing.T) {
	r, e, _ := newRegisteredRig(t, nil)
	r.want(r.at("a.example", "joe", "good"), deny, auth.SourceUnknownDomain)
	r.register(registration("a.example", "good"))
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	r.want(r.at("a.example", "joe", "new"), deny, fromBackend)
	r.want(r.at("a.example", "joe", "new"), deny, auth.SourceRefusedBefore)
	r.register(registration("a.example", "new"))
	r.want(r.at("a.example", "joe", "new"), allow, fromBackend)
	eventually(t, "the end of the former backend", func() bool { return e.open() == 1 })
	r.unregister("a.example")
	r.want(r.at("a.example", "joe", "new"), deny, auth.SourceUnknownDomain)
	r.want(r.ask(auth.Request{Op: auth.OpIsDomain, Domain: "a.example"}), deny, auth.SourceUnknownDomain)
	eventually(t, "the end of the backend", func() bool { return e.open() == 0 })
	r.register(registration("a.example", "third"))
	r.want(r.at("a.example", "ann", "third"), allow, fromBackend)
}

// TestRegisteredChangeBesideRequest: a change during a request leaves it its answer.
func TestRegisteredChangeBesideRequest(t *testing.T) {
	held := newBarrier()
	r, e, _ := newRegisteredRig(t, nil, "a.example")
	e.hold = func(ctx context.Context) { held.ask(ctx, backend.Query{}) }
	answers := make(chan auth.Answer, 2)
	ask := func(password string) { answers <- r.at("a.example", "joe", password) }
	go ask("good")
	held.reached(t, 1)
	r.register(registration("a.example", "new"))
	held.open()
	r.want(<-answers, allow, fromBackend)
	go ask("good")
	r.want(<-answers, deny, fromBackend) // the former backend's yes was not remembered
}

// TestRegisteredWithoutStore: nothing can be registered, and the rest works.
func TestRegisteredWithoutStore(t *testing.T) {
	r := newRig(t, nil)
	err := r.Registry(func(*registry.Registry) ([]registry.Record, []string, error) { panic("asked") })
	if !errors.Is(err, router.ErrNoRegistry) {
		t.Errorf("got %v", err)
	}
	r.want(r.auth("joe", "good"), allow, fromBackend)
}

// TestRegistryLost: when the registry's store could not be opened, a domain that may be
// registered is a temporary failure, not an unknown domain.
func TestRegistryLost(t *testing.T) {
	r := newRig(t, func(s *setup) { s.cfg.Registry.Declared = true })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.want(r.at("a.example", "joe", "good"), auth.Unavailable, auth.SourceConfig)
	r.want(r.ask(auth.Request{Op: auth.OpIsDomain, Domain: "a.example"}), auth.Unavailable, auth.SourceConfig)
}

// brokenStore fails to read domains.
type brokenStore struct {
	store.Store
	broken atomic.Bool
}

func (s *brokenStore) Get(key []byte) ([]byte, error) {
	if s.broken.Load() && strings.HasPrefix(string(key), store.Domains) {
		return nil, errors.New("input/output error")
	}
	return s.Store.Get(key)
}

// TestRegisteredUnreadable: while a record cannot be read, logins of the domain are a temporary failure,
// never a no.
func TestRegisteredUnreadable(t *testing.T) {
	bad := &brokenStore{}
	r, _, _ := newRegisteredRig(t, func(s *setup) {
		bad.Store, s.store = s.store, bad
	}, "a.example")
	bad.broken.Store(true)
	r.want(r.at("a.example", "joe", "good"), auth.Unavailable, auth.SourceConfig)
	if !strings.Contains(r.log.String(), "input/output error") {
		t.Errorf("the log does not say why: %s", r.log)
	}
	bad.broken.Store(false)
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
}

// TestRegisteredIdle: an idle domain loses its actors and its backend, and keeps what is on disk.
func TestRegisteredIdle(t *testing.T) {
	r, e, disk := newRegisteredRig(t, func(s *setup) {
		s.cfg.Registry.Idle, s.cfg.Registry.Cache.Storage = 50*time.Millisecond, config.StorageDisk
	}, "a.example")
	before := len(r.actors())
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	eventually(t, "the end of an idle domain", func() bool { return len(r.actors()) == before && e.open() == 0 })
	r.written()
	if _, err := disk.Get(cache.RecordKey(auth.Identity{User: "joe", Domain: "a.example"})); err != nil {
		t.Errorf("joe on disk: %v", err)
	}
	r.want(r.at("a.example", "joe", "good"), allow, auth.SourceCache)
	if n := len(e.made["a.example"]); n != 2 || e.made["a.example"][1].asked.Load() != 0 {
		t.Errorf("%d backends were made", n)
	}
}

// TestRegisteredBusy: a domain with a request in flight is not idle.
func TestRegisteredBusy(t *testing.T) {
	held := newBarrier()
	r, e, _ := newRegisteredRig(t, func(s *setup) { s.cfg.Registry.Idle = time.Millisecond }, "a.example")
	e.hold = func(ctx context.Context) { held.ask(ctx, backend.Query{}) }
	answer := make(chan auth.Answer)
	go func() { answer <- r.at("a.example", "joe", "good") }()
	held.reached(t, 1)
	rounds := r.sweeper.rounds.Load()
	eventually(t, "some rounds", func() bool { return r.sweeper.rounds.Load() > rounds+10 })
	if e.open() != 1 || r.liveDomains() != 1 {
		t.Error("a domain was stopped with a request in flight")
	}
	held.open()
	r.want(<-answer, allow, fromBackend)
}

// TestRegisteredBound: the domains idle the longest make room, and all are served.
func TestRegisteredBound(t *testing.T) {
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprintf("d%d.example", i)
	}
	r, e, _ := newRegisteredRig(t, func(s *setup) { s.cfg.Registry.MaxLive, s.cfg.Registry.Idle = 3, time.Hour }, names...)
	for round := range 2 {
		for _, name := range names {
			if a := r.at(name, "joe", "good"); a.Verdict != allow {
				t.Errorf("round %d, %s: %v (%v)", round, name, a.Verdict, a.Source)
			}
		}
	}
	eventually(t, "three domains in use", func() bool { return r.liveDomains() == 3 && e.open() == 3 })
	if !r.table.Served("d19.example") {
		t.Error("the last one used made room")
	}
}

// TestRegisteredStorm uses domains that become idle all the time, under changes of the registry:
// every request has its right answer.
func TestRegisteredStorm(t *testing.T) {
	r, _, _ := newRegisteredRig(t, func(s *setup) {
		s.cfg.Registry.Idle, s.level = time.Nanosecond, slog.LevelWarn
	}, "a.example", "b.example", "c.example")
	var wg sync.WaitGroup
	end := make(chan struct{})
	var asked, started atomic.Int64
	for w := range 6 {
		wg.Go(func() {
			name := string(rune('a'+w%3)) + ".example"
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
				if a := r.at(name, fmt.Sprintf("u%d", i%5), password); a.Verdict != want {
					t.Errorf("%s with %s: %v (%v)", name, password, a.Verdict, a.Source)
				}
				asked.Add(1)
				if i%4 == 3 { // long enough for a round of the sweeper
					r.sweepPast(t)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 60 {
			r.register(registrations("a.example", fmt.Sprintf("n%d.example", i))...)
			if i%2 == 1 {
				r.unregister(fmt.Sprintf("n%d.example", i))
			}
			r.sweepPast(t)
		}
		started.Store(int64(r.starts("a.example")))
		close(end)
	})
	wg.Wait()
	if started.Load() < 30 {
		t.Errorf("domains were started %d times only", started.Load())
	}
	t.Logf("%d requests, %d starts", asked.Load(), started.Load())
}

// sweepPast waits for the next round of the sweeper.
func (r *rig) sweepPast(t testing.TB) {
	n := r.sweeper.rounds.Load()
	eventually(t, "a round of the sweeper", func() bool { return r.sweeper.rounds.Load() > n })
}
