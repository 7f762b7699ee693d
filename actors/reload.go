package actors

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"postern/internal/config"
	"postern/internal/store"
	"postern/wire"
)

// ErrReload is wrapped when a reload is refused for a reason that is not in the configuration.
var ErrReload = errors.New("this cannot be reloaded now")

// Reload is a new configuration, with what had to be opened for it.
type Reload struct {
	Config  *config.Config
	Sockets map[string]net.Listener // open, of the listeners that are new, by name
	Store   store.Store             // nil, or opened for the first domain that wants one
}

// Reload puts a new configuration in the place of the one in force. All that may fail is done
// before anything changes, and an error means that nothing has; the sockets are then still the
// caller's. What did not change keeps running: the actors of a domain live as long as its name
// is configured, and only their parameters are exchanged. What is gone answers what it has
// begun, which Reload does not wait for; the next reload does, as long as ctx lets it, also for
// registered domains that were removed.
func (b *Broker) Reload(ctx context.Context, r Reload) (config.Changes, error) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	changes := config.Diff(b.cfg, r.Config)
	if b.draining.Load() {
		return changes, fmt.Errorf("%w: postern is stopping", ErrReload)
	}
	if err := b.awaitLeaving(ctx); err != nil {
		return changes, err
	}
	p := &plan{Broker: b, Reload: r, changes: changes, params: make(map[string]*params)}
	if err := p.prepare(); err != nil {
		p.undo()
		return changes, err
	}
	p.commit()
	return changes, nil
}

// awaitLeaving waits for the domains that were taken out of use before: until then one of the
// same name would have a twin, and one that inherits users would miss what they learn.
func (b *Broker) awaitLeaving(ctx context.Context) error {
	for _, d := range b.leaving {
		select {
		case <-d.gone:
		case <-ctx.Done():
			return fmt.Errorf("%w: domain %q was removed a moment ago and still answers requests: try again", ErrReload, d.name)
		}
	}
	b.leaving = nil
	return nil
}

// plan is a reload under way.
type plan struct {
	*Broker
	Reload
	changes config.Changes
	next    *table
	fresh   []*domain          // started, not served yet
	params  map[string]*params // new ones of domains that stay
	made    []*backendRef

	retiring []*tenant // that get a block
}

// prepare makes everything that is new, beside what is in force.
func (p *plan) prepare() error {
	for _, l := range p.Config.Listeners {
		if _, err := wire.New(wire.Protocol(l.Protocol), wire.Options{}); err != nil {
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
	}
	for _, l := range p.changes.Listeners.Added {
		if p.Sockets[l.Name] == nil {
			return fmt.Errorf("listener %q: its socket was not opened", l.Name)
		}
	}
	now := p.table.Load()
	p.next = &table{
		domains:  make(map[string]*domain, len(p.Config.Domains)),
		backends: make(map[config.BackendRef]*backendRef, len(p.Config.Backends)),
	}
	another := names(p.changes.Backends, func(c config.Backend) config.BackendRef { return c.BackendRef })
	for _, c := range p.Config.Backends {
		if !another[c.BackendRef] {
			p.next.backends[c.BackendRef] = now.backends[c.BackendRef]
			continue
		}
		ref, err := p.newBackend(c)
		if err != nil {
			return err
		}
		p.made = append(p.made, ref)
		p.next.backends[c.BackendRef] = ref
	}
	changed := names(p.changes.Domains, func(c config.Domain) string { return c.Name })
	for _, c := range p.Config.Domains {
		d := now.domains[c.Name]
		touched := changed[c.Name] || slices.ContainsFunc(c.Backends, func(r config.BackendRef) bool { return another[r] })
		if d != nil && !touched {
			p.next.domains[c.Name] = d
			continue
		}
		if err := p.prepareDomain(c, d); err != nil {
			return err
		}
	}
	return nil
}

// prepareDomain makes new parameters of a domain, and the domain if it is new.
func (p *plan) prepareDomain(c config.Domain, d *domain) error {
	will, err := newParams(c, p.next.backends)
	if err != nil {
		return err
	}
	if d != nil {
		p.params[c.Name], p.next.domains[c.Name] = will, d
		return nil
	}
	d = p.newDomain("domain:"+c.Name, c.Name, will)
	if err := d.start(); err != nil {
		will.retire()
		return err
	}
	p.fresh = append(p.fresh, d)
	p.next.domains[c.Name] = d
	return nil
}

// undo takes down what prepare made.
func (p *plan) undo() {
	for _, will := range p.params {
		will.retire()
	}
	for _, d := range p.fresh {
		p.retireDomain(d)
	}
	p.leaving = append(p.leaving, p.fresh...)
	for _, r := range p.made {
		r.retire()
	}
}

// commit puts the new in the place of the old.
func (p *plan) commit() {
	now := p.table.Load()
	p.shape.Lock()
	var tenants []*tenant
	if p.Store != nil {
		for _, d := range now.domains {
			if d.params.Load().disk { // it had to do without, and what it learned is not there
				p.report(d.name, p.deleteUsers(p.Store, d))
			}
		}
		tenants = p.openDisk(p.Store)
	}
	for name, will := range p.params {
		p.adjust(now.domains[name], will)
		now.domains[name].prepareRoster()
	}
	for _, d := range p.fresh {
		d.prepareRoster()
	}
	for _, m := range p.moves(now, p.next) {
		p.handOver(m.name, m.from, m.to)
	}
	p.yieldTenants(now)
	p.table.Store(p.next)
	p.cfg = p.Config
	was := p.settings.Swap(p.Config).Registry
	p.settle(tenants)
	p.retune(was)
	p.shape.Unlock()
	p.switchListeners()
	for name, d := range now.domains {
		if p.next.domains[name] == nil {
			p.leaving = append(p.leaving, d)
			p.retireDomain(d)
		}
	}
	for ref, r := range now.backends {
		if p.next.backends[ref] != r {
			r.retire()
		}
	}
}

// move is a name for which another domain will answer than does now.
type move struct {
	name     string
	from, to *domain
}

// moves lists the names whose users change hands between two tables: those that get a block of
// their own, and those that lose it to the fallback. Who becomes a tenant begins anew, after the
// last request to its block is answered.
func (b *Broker) moves(now, next *table) (list []move) {
	for _, t := range []*table{now, next} {
		for name := range t.domains {
			from, to := now.lookup(name), next.lookup(name)
			if t := b.tenants.get(name); t != nil {
				if now.domains[name] == nil {
					from = t.live.Load()
				}
				to = next.domains[name]
			}
			if name != "*" && from != nil && to != nil && from != to {
				list = append(list, move{name, from, to})
			}
		}
	}
	return list
}

// names are the keys of the blocks that are new or changed.
func names[T any, K comparable](d config.Delta[T], key func(T) K) map[K]bool {
	set := make(map[K]bool)
	for _, t := range d.Added {
		set[key(t)] = true
	}
	for _, c := range d.Changed {
		set[key(c.New)] = true
	}
	return set
}

// switchListeners starts the new listeners, gives the changed ones their parameters, and takes
// away the others.
func (p *plan) switchListeners() {
	for _, c := range p.changes.Listeners.Changed {
		if l := p.listenerOf(c.Old); l != nil {
			l.front.Store(p.newFront(c.New))
			l.slots.set(c.New.MaxConnections)
			p.mu.Lock()
			l.cfg = c.New
			p.mu.Unlock()
		}
	}
	for _, c := range p.changes.Listeners.Removed {
		if l := p.listenerOf(c); l != nil {
			p.takeAway(l)
		}
	}
	for _, c := range p.changes.Listeners.Added {
		if err := p.Listen(c, p.Sockets[c.Name]); err != nil { // its protocol is known: see prepare
			p.log.Error("listener could not be started", "listener", c.Name, "err", err)
		}
	}
}

// listenerOf finds the listener of a block.
func (b *Broker) listenerOf(cfg config.Listener) *listener {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.listeners {
		if l.cfg.Name == cfg.Name && l.cfg.Address == cfg.Address {
			return l
		}
	}
	return nil
}

// takeAway stops a listener. Its connections end when what is in flight on them is answered.
func (b *Broker) takeAway(l *listener) {
	l.gone.Store(true)
	b.mu.Lock()
	l.close()
	b.listeners = slices.DeleteFunc(b.listeners, func(m *listener) bool { return m == l })
	for c := range b.conns {
		if c.from == l {
			_ = c.net.SetReadDeadline(time.Unix(1, 0))
		}
	}
	b.mu.Unlock()
	stopped := b.sys.Root.StopFuture(l.pid)
	b.aside(func() { // its name is taken until then; a listener of the same block may come at once
		_ = stopped.Wait()
		b.sys.forget(l.name)
	})
}
