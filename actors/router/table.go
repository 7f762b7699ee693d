package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"postern/actors/call"
	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/memory"
	"postern/actors/rosters"
	"postern/actors/slots"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/registry"
	"postern/internal/store"
)

// ErrUnknownDomain is wrapped when no domain answers for a name.
var ErrUnknownDomain = errors.New("no such domain is configured")

// ErrStopping is wrapped when nothing new begins any more.
var ErrStopping = errors.New("postern is stopping")

// Table finds the router of a domain's name: that of its block in the configuration, else that of
// the registered domain, else that of the fallback "*". It starts the routers and ends them.
type Table struct {
	env         env.Env
	shards      *memory.Shards
	tokens      func(hash uint64) *supervise.Ref
	makeBackend func(config.Backend) (backend.Backend, error)

	served     atomic.Pointer[served]
	registered atomic.Pointer[map[string]*registered]
	registry   atomic.Pointer[registry.Registry] // nil without a store
	reading    chan struct{}                     // one for each registered domain that is being read
	faults     supervise.LogThrottle

	changing sync.Mutex // held by one change of the table after the other

	mu       sync.Mutex // held while a pointer of the table changes, never for long
	live     map[*registered]*Router
	routers  map[*Router]struct{}        // all that have an actor, also those about to end
	backends map[*slots.Backend]struct{} // likewise
	former   map[string]slots.Saved      // limits that a former process has handed over, by Backend.Identity
	starts   uint64                      // of routers of registered domains, ever; part of their actors' names
	stopping bool
	pending  sync.WaitGroup // goroutines that Stop waits for
}

// served is what the configuration file has. It is immutable; a reload puts another one in its
// place.
type served struct {
	cfg      *config.Config
	routers  map[string]*Router // "*" is the fallback
	backends map[config.BackendRef]*slots.Backend
}

// readsAtOnce is how many registered domains are read from the store at the same time.
const readsAtOnce = 4

// NewTable returns a table that serves no domain yet. tokens finds the token worker of a user.
func NewTable(e env.Env, makeBackend func(config.Backend) (backend.Backend, error)) *Table {
	t := &Table{
		env: e, makeBackend: makeBackend, reading: make(chan struct{}, readsAtOnce),
		live: make(map[*registered]*Router), routers: make(map[*Router]struct{}), backends: make(map[*slots.Backend]struct{}),
	}
	t.served.Store(&served{cfg: &config.Config{}})
	t.registered.Store(&map[string]*registered{})
	return t
}

// Connect names the actors to which the routers send their calls. It is called before the first
// call.
func (t *Table) Connect(shards *memory.Shards, tokens func(hash uint64) *supervise.Ref) {
	t.shards, t.tokens = shards, tokens
}

// find returns the router that answers for a name. Of a registered domain that is not in use it
// returns the domain: its router must be started first.
func (t *Table) find(name string) (*Router, *registered) {
	s := t.served.Load()
	if r := s.routers[name]; r != nil {
		return r, nil
	}
	if reg := (*t.registered.Load())[name]; reg != nil {
		return reg.router.Load(), reg
	}
	return s.routers["*"], nil
}

// Serves reports whether any domain answers for a name. It starts no router.
func (t *Table) Serves(name string) bool {
	r, reg := t.find(name)
	return r != nil || reg != nil
}

// Receives reports whether a domain is one of those of this machine, so that mail for it is local:
// it has a block, is registered, has accounts in a users file of "*", or is listed there. That "*"
// would answer for it is not enough. With an error it cannot be found out now.
func (t *Table) Receives(name string) (bool, error) {
	s := t.served.Load()
	if s.routers[name] != nil && name != "*" || (*t.registered.Load())[name] != nil {
		return true, nil
	}
	fallback := s.routers["*"]
	if fallback == nil {
		return false, nil
	}
	if cfg := s.cfg.DomainFor("*"); cfg != nil && slices.Contains(cfg.Local, name) {
		return true, nil
	}
	var errs error
	if d := fallback.domain.Load(); d != nil {
		for _, hop := range d.Hops {
			has, err := hop.Backend.HasDomain(name)
			if has {
				return true, nil
			}
			errs = errors.Join(errs, err)
		}
	}
	return false, errs
}

// Users lists the users of a domain at all its backends, each once. It waits for them. Those of a registered
// domain that is not in use cannot be listed.
func (t *Table) Users(ctx context.Context, name string) ([]string, error) {
	d := t.Current(name)
	if d == nil || !d.Acquire() {
		return nil, fmt.Errorf("%q: %w", name, ErrUnknownDomain)
	}
	defer d.Release()
	seen := make(map[string]bool)
	var all []string
	for _, hop := range d.Hops {
		names, err := hop.Backend.Users(ctx, cmp.Or(hop.AuthDomain, name))
		if err != nil {
			return nil, err
		}
		for _, user := range names {
			if folded := auth.FoldUser(user); !seen[folded] || !d.Folds {
				seen[folded] = true
				all = append(all, user)
			}
		}
	}
	return all, nil
}

// Current implements memory.Directory.
func (t *Table) Current(name string) *domain.Domain {
	if r, _ := t.find(name); r != nil {
		return r.domain.Load()
	}
	return nil
}

// Served implements memory.Directory.
func (t *Table) Served(block string) bool {
	if t.served.Load().routers[block] != nil {
		return true
	}
	reg := (*t.registered.Load())[block]
	return reg != nil && reg.router.Load() != nil
}

// Config is the configuration in force.
func (t *Table) Config() *config.Config { return t.served.Load().cfg }

// Backends are those of the configuration file.
func (t *Table) Backends() map[config.BackendRef]*slots.Backend { return t.served.Load().backends }

// AllBackends are those of the configuration file and those of registered domains in use.
func (t *Table) AllBackends() []*slots.Backend {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.backends))
}

// Domains are the values in force of the domains that have routers, by the name of their block.
// With registered, those of registered domains in use are among them.
func (t *Table) Domains(registered bool) map[string]*domain.Domain {
	all := make(map[string]*domain.Domain)
	for name, r := range t.served.Load().routers {
		if d := r.domain.Load(); d != nil { // else a reload has removed it a moment ago
			all[name] = d
		}
	}
	if registered {
		t.mu.Lock()
		defer t.mu.Unlock()
		for reg, r := range t.live {
			if d := r.domain.Load(); d != nil && all[reg.name] == nil {
				all[reg.name] = d
			}
		}
	}
	return all
}

// Dispatch sends a call to the router of its domain. run is that of the caller's goroutine, or nil.
func (t *Table) Dispatch(run *supervise.Runner, c *call.Call) {
	for {
		r, reg := t.find(c.ID.Domain)
		if r == nil && reg != nil {
			var err error
			if r, err = t.start(reg); err != nil {
				t.refuse(c, reg, err)
				return
			}
		}
		switch {
		case r == nil && reg != nil: // not registered any more
		case r == nil && t.RegistryLost():
			c.Trace.Add("domain", "not configured; whether it is registered is not known, see the log")
			c.Unavailable(auth.SourceConfig)
			return
		case r == nil:
			c.Trace.Add("domain", "not configured or registered, and there is no fallback domain \"*\"")
			c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceUnknownDomain})
			return
		case r.admit(run, c):
			return
		}
		// The router was taken out of the table a moment ago.
	}
}

func (t *Table) refuse(c *call.Call, reg *registered, err error) {
	why := auth.SourceConfig
	if errors.Is(err, ErrStopping) {
		why = auth.SourceStopping
	} else {
		t.reportFault(reg.name, err)
	}
	c.Unavailable(why)
}

// Reroute implements memory.Directory.
func (t *Table) Reroute(c *call.Call) {
	c.Leave()
	c.Domain = nil
	t.Dispatch(nil, c)
}

// RegistryLost reports whether registered domains were to be kept but cannot be read: a domain that
// is not in the file is then neither served nor unknown.
func (t *Table) RegistryLost() bool {
	return t.registry.Load() == nil && t.Config().Registry.Declared
}

// newRouter starts the router of a block or of a registered domain.
func (t *Table) newRouter(name, path string, static bool) (*Router, error) {
	r := &Router{Shared: &domain.Shared{Name: name}, table: t, static: static}
	r.calls = supervise.NewRefCount(func() { t.end(r) })
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopping {
		return nil, ErrStopping
	}
	ref, err := t.env.System.Spawn(path, maxUnderWay, func(self *supervise.Ref) actor.Actor { return &router{Router: r, self: self} })
	if err != nil {
		return nil, fmt.Errorf("domain %q: %w", name, err)
	}
	r.ref = ref
	t.routers[r] = struct{}{}
	return r, nil
}

// startRosters starts the actor of a block's shared rosters, unless there is one. It comes before
// the first value with shared rosters: a reader of the value may then read r.roster and
// r.Rosters.
func (t *Table) startRosters(r *Router) error {
	if r.roster != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopping {
		return ErrStopping
	}
	made, err := rosters.Start(t.env, t.env.System.ReserveName(r.ref.Name()+"/roster"), r.Name, r.Domain)
	if err != nil {
		return fmt.Errorf("domain %q: %w", r.Name, err)
	}
	r.roster, r.Rosters = made, made.Ref
	return nil
}

// end stops the actors of a router without calls. It does not block.
func (t *Table) end(r *Router) {
	r.replace(nil)
	r.ref.Stop()
	if r.roster != nil {
		r.roster.Ref.Stop()
	}
	t.mu.Lock()
	delete(t.routers, r)
	t.mu.Unlock()
}

// newBackend makes a backend and the actor with its slots. Domains hold it; when it is retired and
// the last of them has released it, it is closed.
func (t *Table) newBackend(cfg config.Backend) (*slots.Backend, error) {
	be, err := t.makeBackend(cfg)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", cfg.BackendRef, err)
	}
	b, err := slots.New(t.env, cfg, be, func(b *slots.Backend) {
		t.Go(func() { t.closeBackend(b) })
	})
	if err != nil {
		_ = be.Close()
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.backends[b] = struct{}{}
	if s, ok := t.former[b.Identity()]; ok {
		delete(t.former, b.Identity())
		b.Restore(s)
	}
	return b, nil
}

// SaveLimits returns the limits of all backends for a successor of the process, by Backend.Identity.
func (t *Table) SaveLimits(ctx context.Context) (map[string]slots.Saved, error) {
	t.mu.Lock()
	all := maps.Clone(t.former)
	t.mu.Unlock()
	if all == nil {
		all = make(map[string]slots.Saved)
	}
	for _, b := range t.AllBackends() {
		s, err := b.Save(ctx)
		if err != nil {
			return nil, err
		}
		all[b.Identity()] = s
	}
	return all, nil
}

// InheritLimits gives backends the limits that a former process has handed over, as they are started. It
// must come before Start.
func (t *Table) InheritLimits(former map[string]slots.Saved) { t.former = former }

func (t *Table) closeBackend(b *slots.Backend) {
	b.Close(stopTimeout)
	t.mu.Lock()
	delete(t.backends, b)
	t.mu.Unlock()
}

// Go runs fn on a goroutine that Stop waits for. Once the table stops, Stop itself does the work
// that fn would do, and Go is false.
func (t *Table) Go(fn func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopping {
		return false
	}
	t.pending.Add(1)
	go func() {
		defer t.pending.Done()
		fn()
	}()
	return true
}

// readNames takes the registry of a store into use, and returns the names of the domains there.
func (t *Table) readNames(s store.Store) (names []string) {
	r := registry.New(s)
	if err := r.Names(func(name string) { names = append(names, name) }); err != nil {
		t.env.Log.Error("registered domains cannot be read; their logins are refused, or go to \"*\"", "err", err)
		return nil
	}
	t.registry.Store(r)
	return names
}

// Registered is how many domains are registered, and how many of them are in use.
func (t *Table) Registered() (all, live int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(*t.registered.Load()), len(t.live)
}

// Registry gives read access to the registered domains; nil without a store.
func (t *Table) Registry() *registry.Registry { return t.registry.Load() }

// RosterOf returns the shared rosters of a domain. The error wraps ErrUnknownDomain or
// rosters.ErrNone.
func (t *Table) RosterOf(name string) (*rosters.Roster, error) {
	r, reg := t.find(name)
	switch {
	case r == nil && reg == nil:
		return nil, fmt.Errorf("%s: %w", name, ErrUnknownDomain)
	case r == nil || !r.hasRoster():
		return nil, fmt.Errorf("%s: %w", name, rosters.ErrNone)
	}
	return r.roster, nil
}

// Rosters are those of the domain blocks that have shared rosters, sorted by name.
func (t *Table) Rosters() (list []*rosters.Roster) {
	all := t.served.Load().routers
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name].hasRoster() {
			list = append(list, all[name].roster)
		}
	}
	return list
}

// Describe says how each domain and backend stands, a line each, for the log of SIGUSR1.
func (t *Table) Describe() (lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for b := range t.backends {
		lines = append(lines, b.String())
	}
	for r := range t.routers {
		lines = append(lines, fmt.Sprintf("domain:%s limits user=%d address=%d budget=%d", r.Name,
			r.LimitedByUser.Load(), r.LimitedByAddress.Load(), r.LimitedByBudget.Load()))
	}
	return lines
}

// Stop ends every router and closes every backend. Calls without an answer must have been failed
// before; none may follow. It is called once.
func (t *Table) Stop() {
	t.mu.Lock()
	t.stopping = true
	t.mu.Unlock()
	t.pending.Wait()
	t.mu.Lock()
	routers, backends := slices.Collect(maps.Keys(t.routers)), slices.Collect(maps.Keys(t.backends))
	t.mu.Unlock()
	for _, r := range routers {
		r.ref.Stop()
		if r.roster != nil {
			r.roster.Ref.Stop()
		}
	}
	for _, r := range routers {
		<-r.ref.Stopped()
		if r.roster != nil {
			<-r.roster.Ref.Stopped()
			r.roster.Close(stopTimeout)
		}
	}
	for _, r := range routers {
		r.replace(nil) // closes its connection to an XMPP server
	}
	for _, b := range backends {
		b.Close(stopTimeout)
	}
}
