package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/registry"
	"postern/internal/store"
)

// ErrNoRegistry is wrapped when there is no store to keep registered domains in.
var ErrNoRegistry = errors.New("domains cannot be registered: the store is not open")

// openRegistry takes the domains registered in a store into use, and returns them.
func (b *Broker) openRegistry(s store.Store) []*tenant {
	r := registry.New(s)
	var names []string
	if err := r.Names(func(name string) { names = append(names, name) }); err != nil {
		b.log.Error("registered domains cannot be read; their logins are refused, or go to \"*\"", "err", err)
		return nil
	}
	b.tenants.registry.Store(r)
	return b.addTenants(names)
}

// addTenants makes names tenants, and returns those that were not. They are busy: see settle.
func (b *Broker) addTenants(names []string) (added []*tenant) {
	all := *b.tenants.names.Load()
	next := make(map[string]*tenant, len(all)+len(names))
	maps.Copy(next, all)
	for _, name := range names {
		if next[name] == nil {
			t := &tenant{name: name, busy: true, last: b.leavingOf(name)}
			next[name] = t
			added = append(added, t)
		}
	}
	if len(added) > 0 {
		b.tenants.names.Store(&next)
	}
	return added
}

// leavingOf returns the domain of a name that was taken out of use and has not stopped; nil if
// there is none.
func (b *Broker) leavingOf(name string) *domain {
	b.leaving = slices.DeleteFunc(b.leaving, (*domain).over)
	for _, d := range slices.Backward(b.leaving) {
		if d.name == name {
			return d
		}
	}
	return nil
}

// settle has the fallback forget, in memory, the users of new tenants, and lets these have
// their calls. From addTenants on it remembers nothing new of them. A block that answers for one
// of them keeps its records, and has what the fallback still hands on to it.
func (b *Broker) settle(added []*tenant) {
	now := b.table.Load()
	if star := now.domains["*"]; star != nil && len(added) > 0 {
		own := make(map[string]bool, len(added))
		for _, t := range added {
			own[t.name] = true
		}
		inherits := func(name string) bool { return own[name] && now.domains[name] == nil }
		star.orderAll(func(_ int, s *shard) {
			s.users.drop(func(id auth.Identity) bool { return own[id.Domain] })
			maps.DeleteFunc(s.left, func(name string, _ *shardRef) bool { return inherits(name) })
		})
		for _, t := range added {
			if inherits(t.name) {
				b.rekey(t.name, star.params.Load().disk, b.settings.Load().Registry.Cache.Storage == config.StorageDisk)
			}
		}
	}
	b.open(added)
}

// open lets new tenants have their calls.
func (b *Broker) open(added []*tenant) {
	for _, t := range added {
		t.mu.Lock()
		t.busy = len(t.waiting) > 0
		wake := t.busy
		t.mu.Unlock()
		if wake {
			b.wake(t)
		}
	}
}

// rekey deletes the records of a name whose users are from now on kept on disk, or no more:
// what is there misses what was refused while it was not written, or would miss it later.
func (b *Broker) rekey(name string, was, will bool) {
	disk := b.disk.Load()
	if was == will || disk == nil {
		return
	}
	any, prefix := false, cache.RecordPrefix(name)
	err := disk.Scan(prefix, func([]byte, []byte) bool { any = true; return false })
	if err == nil && any {
		err = disk.DeletePrefix(prefix)
	}
	b.report(name, err)
}

// Registry carries out a change of the registered domains, which names what it has written and
// deleted, and puts it into effect before it returns. Requests in flight are answered.
func (b *Broker) Registry(change func(*registry.Registry) (put []registry.Record, deleted []string, err error)) error {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	r := b.tenants.registry.Load()
	if r == nil {
		return fmt.Errorf("%w: add a registry {} block to the configuration and reload it, or see the log why it could not be opened", ErrNoRegistry)
	}
	if b.draining.Load() {
		return errStopping
	}
	put, deleted, err := change(r)
	if err != nil {
		return err
	}
	b.shape.Lock()
	defer b.shape.Unlock()
	var errs []error
	names := make([]string, len(put))
	for i, record := range put {
		names[i] = record.Domain
		if t := b.tenants.get(record.Domain); t != nil {
			errs = append(errs, b.alter(t, record))
		}
	}
	b.settle(b.addTenants(names))
	for _, name := range deleted {
		if t := b.tenants.get(name); t != nil {
			b.evict(t)
		}
	}
	return errors.Join(errs...)
}

// Registered gives read access to the registry; nil without a store.
func (b *Broker) Registered() *registry.Registry { return b.tenants.registry.Load() }

// alter puts a changed record into effect.
func (b *Broker) alter(t *tenant, record registry.Record) error {
	t.mu.Lock()
	t.change++
	d := t.live.Load()
	t.mu.Unlock()
	if d == nil {
		return nil
	}
	will, err := b.tenantParams(record, b.settings.Load())
	if err != nil {
		return fmt.Errorf("%s goes on as it was: %w", t.name, err)
	}
	b.adjust(d, will)
	return nil
}

// evictPatience bounds the wait for the last writes of a tenant that was idle.
const evictPatience = 2 * time.Second

// evict ends a tenant. The fallback, if there is one, inherits its users.
func (b *Broker) evict(t *tenant) {
	star := b.table.Load().domains["*"]
	d := t.live.Load()
	switch {
	case star == nil || b.table.Load().domains[t.name] != nil:
	case d != nil:
		t.heir.Store(star)
		b.handOver(t.name, d, star)
	default:
		b.quiet(t)
		b.rekey(t.name, b.settings.Load().Registry.Cache.Storage == config.StorageDisk, star.params.Load().disk)
	}
	next := maps.Clone(*b.tenants.names.Load())
	delete(next, t.name)
	b.tenants.names.Store(&next)
	b.part(t, true)
}

// part takes a tenant's domain out of use. Calls that wait find out who answers now.
func (b *Broker) part(t *tenant, end bool) {
	if d := b.lay(t, end); d != nil {
		b.retireDomain(d)
	}
	t.mu.Lock()
	last, waiting := t.last, t.waiting
	t.waiting = nil
	t.mu.Unlock()
	if last != nil && !last.over() { // also of one that had fallen asleep
		b.leaving = append(b.leaving, last)
	}
	for _, c := range waiting {
		b.dispatch(c)
	}
}

// quiet waits for the end of a tenant's former life.
func (b *Broker) quiet(t *tenant) {
	t.mu.Lock()
	last := t.last
	t.mu.Unlock()
	if last == nil {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, evictPatience)
	defer cancel()
	select {
	case <-last.gone:
	case <-ctx.Done():
	}
}

// RegistryLost reports whether registered domains were to be kept but cannot be read.
func (b *Broker) RegistryLost() bool { return b.unsure() }

// InForce is the configuration in force.
func (b *Broker) InForce() *config.Config { return b.settings.Load() }
