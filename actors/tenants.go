package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/registry"
)

// A registered domain, a tenant, is known by its name only until somebody asks for it. Its
// actors are then started beside the reader that brought the request, which waits in a queue of
// the tenant, and stopped when nobody has asked for a while. A domain block of the same name
// stands before it, and it before the fallback.

// startsAtOnce is how many tenants are started at the same time.
const startsAtOnce = 4

// tenants are the registered domains.
type tenants struct {
	registry atomic.Pointer[registry.Registry] // nil without a store
	names    atomic.Pointer[map[string]*tenant]
	starts   chan struct{} // one for each start under way
	awake    atomic.Int64
	lives    atomic.Uint64 // ever begun: tells their actors apart
	tidying  atomic.Bool
	faults   nag
}

// tenant is a registered domain.
type tenant struct {
	name string
	live atomic.Pointer[domain] // nil while it has no actors
	heir atomic.Pointer[domain] // while its users are handed over: to whom

	mu      sync.Mutex
	gone    bool    // registered no more
	busy    bool    // something is under way at whose end the calls that wait go on
	waiting []*Call // bounded by workerQueue
	change  uint64  // number of the last change that an awakening must see
	last    *domain // the former life, whose actors must have stopped before the next
}

func (n *tenants) get(name string) *tenant { return (*n.names.Load())[name] }

// find returns who answers for a name: its domain, or the tenant that has no actors now, or
// none of both.
func (b *Broker) find(name string) (*domain, *tenant) {
	t := b.table.Load()
	if d := t.domains[name]; d != nil {
		return d, nil
	}
	if t := b.tenants.get(name); t != nil {
		return t.live.Load(), t
	}
	return t.domains["*"], nil
}

// strange reports whether a name has been registered since the fallback got to know it: the
// fallback then remembers nothing of its users any more.
func (d *domain) strange(name string) bool {
	if d.name != "*" {
		return false
	}
	t := d.broker.tenants.get(name)
	return t != nil && t.heir.Load() != d
}

// await lets a call wait for its tenant, which is started if it is not already.
func (b *Broker) await(t *tenant, c *Call) {
	t.mu.Lock()
	if t.gone || t.live.Load() != nil {
		t.mu.Unlock()
		b.dispatch(c)
		return
	}
	if len(t.waiting) >= workerQueue {
		t.waiting = slices.DeleteFunc(t.waiting, (*Call).Done)
	}
	if len(t.waiting) >= workerQueue {
		t.mu.Unlock()
		c.Fail(auth.SourceOverload)
		return
	}
	c.Trace.Add("domain", "registered; its actors are started")
	t.waiting = append(t.waiting, c)
	begin := !t.busy
	t.busy = true
	t.mu.Unlock()
	if begin {
		b.wake(t)
	}
}

// wake starts a tenant that was marked as busy, on a goroutine of its own, and returns what will
// bring the outcome.
func (b *Broker) wake(t *tenant) <-chan error {
	woken := make(chan error, 1)
	end := func(err error) {
		b.release(t, err)
		woken <- err
	}
	if !b.aside(func() { end(b.revive(t)) }) {
		end(errStopping)
	}
	return woken
}

// release ends what kept a tenant's calls waiting: they go on, or cannot be answered.
func (b *Broker) release(t *tenant, err error) {
	t.mu.Lock()
	waiting := t.waiting
	t.waiting, t.busy = nil, false
	t.mu.Unlock()
	why := auth.SourceConfig
	switch {
	case err == nil:
		for _, c := range waiting {
			b.dispatch(c)
		}
		return
	case errors.Is(err, errStopping):
		why = auth.SourceStopping
	default:
		if held, ok := b.tenants.faults.due(time.Now()); ok {
			b.log.Error("registered domain cannot be started; its logins are answered \"cannot tell\"",
				"domain", t.name, "err", err, "alike", held)
		}
	}
	failAll(waiting, why)
}

var errStopping = errors.New("postern is stopping")

// revive starts the actors of a tenant, unless it turns out that another answers for its name.
func (b *Broker) revive(t *tenant) error {
	for {
		t.mu.Lock()
		change, last := t.change, t.last
		t.mu.Unlock()
		if last != nil {
			select {
			case <-last.gone:
			case <-b.ctx.Done():
				return errStopping
			}
		}
		d, err := b.startTenant(t)
		if errors.Is(err, registry.ErrUnknown) {
			return nil // removed a moment ago
		}
		if err != nil {
			return err
		}
		if b.publish(t, d, change) {
			return nil
		}
		select {
		case <-d.gone:
		case <-b.ctx.Done():
			return errStopping
		}
		if d, other := b.find(t.name); d != nil || other != t {
			return nil
		}
	}
}

// startTenant makes and starts the domain of a tenant.
func (b *Broker) startTenant(t *tenant) (*domain, error) {
	select {
	case b.tenants.starts <- struct{}{}:
	case <-b.ctx.Done():
		return nil, errStopping
	}
	defer func() { <-b.tenants.starts }()
	r := b.tenants.registry.Load()
	record, err := r.Get(t.name)
	if err != nil {
		return nil, err
	}
	p, err := b.tenantParams(record, b.settings.Load())
	if err != nil {
		return nil, err
	}
	d := b.newDomain(fmt.Sprintf("registered:%s#%d", t.name, b.tenants.lives.Add(1)), t.name, p)
	if err := d.start(); err != nil {
		p.retire()
		return nil, err
	}
	return d, nil
}

// tenantParams makes the parameters of a registered domain, and its backend, which lives as
// long as they do.
func (b *Broker) tenantParams(r registry.Record, cfg *config.Config) (*params, error) {
	bc, dc := cfg.Registered(r.Domain, r.Kind, r.URL, r.Secret, r.AuthDomain)
	ref, err := b.newBackend(bc)
	if err != nil {
		return nil, err
	}
	defer ref.retire()
	return newParams(dc, map[config.BackendRef]*backendRef{bc.BackendRef: ref})
}

// publish lets a tenant's actors have its calls, unless something has changed since they were
// made; then they are stopped again.
func (b *Broker) publish(t *tenant, d *domain, change uint64) bool {
	b.shape.Lock()
	defer b.shape.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone || t.change != change || b.table.Load().domains[t.name] != nil {
		b.retireDomain(d)
		return false
	}
	d.used.Store(time.Now().UnixNano())
	t.last = nil
	t.live.Store(d)
	b.tenants.awake.Add(1)
	return true
}

// lay takes a tenant's domain out of use, or none, and says that what is awakening has been
// overtaken. Only retireDomain is left to do. The caller holds shape.
func (b *Broker) lay(t *tenant, end bool) *domain {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.change++
	t.gone = t.gone || end
	d := t.live.Swap(nil)
	if d != nil {
		t.last = d
		b.tenants.awake.Add(-1)
	}
	return d
}

// awaken starts the actors of a name's tenant, if it is one without, and waits for them.
func (b *Broker) awaken(ctx context.Context, name string) error {
	for {
		d, t := b.find(name)
		if d != nil || t == nil {
			return nil
		}
		t.mu.Lock()
		begin := !t.busy && !t.gone && t.live.Load() == nil
		t.busy = t.busy || begin
		t.mu.Unlock()
		var woken <-chan error
		var again <-chan time.Time
		if begin {
			woken = b.wake(t)
		} else {
			again = time.After(time.Millisecond)
		}
		select {
		case err := <-woken:
			if err != nil {
				return err
			}
		case <-again:
		case <-ctx.Done():
			return ErrBusy
		case <-b.ctx.Done():
			return errStopping
		}
	}
}

// awake lists the tenants that have actors, with these.
func (b *Broker) awake() map[*tenant]*domain {
	list := make(map[*tenant]*domain)
	if b.tenants.awake.Load() == 0 {
		return list
	}
	for _, t := range *b.tenants.names.Load() {
		if d := t.live.Load(); d != nil {
			list[t] = d
		}
	}
	return list
}

// serving lists the domains that have actors and calls, by name.
func (b *Broker) serving() map[string]*domain {
	all := maps.Clone(b.table.Load().domains)
	if all == nil {
		all = make(map[string]*domain)
	}
	for t, d := range b.awake() {
		all[t.name] = d
	}
	return all
}
