package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"postern/actors/domain"
	"postern/actors/slots"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
)

// stopTimeout bounds the wait for actors, and for questions under way, at the end.
const stopTimeout = 5 * time.Second

// change is another state of the table.
type change struct {
	after storage
	names []string               // that may get another domain, or another place for their users
	all   bool                   // so may every name
	gone  []string               // blocks, and registered domains, that are not served any more
	swap  func() (old []*Router) // puts the state in force; under Table.mu. The routers returned are retired
}

// apply puts a change in force. Nothing is handed over: what the shards remember by the former state
// is forgotten where it does not hold any more, and what is on disk is deleted where it would miss
// what was refused while it was not written. The error says that not every shard has followed.
func (t *Table) apply(ctx context.Context, c change) error {
	before, disk := t.storage(), t.env.Disk()
	t.purge(disk, c, before, c.after)
	t.mu.Lock()
	old := c.swap()
	t.mu.Unlock()
	t.shards.Abandon(func(block string) bool { return c.all || slices.Contains(c.names, block) })
	for _, name := range c.gone {
		t.shards.DropBlock(name)
	}
	var err error
	if _, fallback := before.blocks["*"]; fallback {
		own := make(map[string]bool, len(c.names))
		for _, name := range c.names {
			own[name] = true
		}
		err = t.shards.Drop(ctx, "*", func(id auth.Identity) bool { return own[id.Domain] })
	} else {
		err = t.shards.Settle(ctx)
	}
	t.purge(disk, c, c.after, before)
	for _, r := range old {
		r.retire()
	}
	return err
}

// storage says of each name whether its users are kept on disk.
type storage struct {
	disk       bool // there is one
	blocks     map[string]bool
	registered map[string]*registered
	kept       bool // the users of registered domains
}

// storage is how the table stands now.
func (t *Table) storage() storage {
	s := storage{
		disk: t.env.Disk() != nil, blocks: make(map[string]bool), registered: *t.registered.Load(),
		kept: t.Config().Registry.Cache.Storage == config.StorageDisk,
	}
	for name, r := range t.served.Load().routers {
		s.blocks[name] = r.domain.Load().Disk
	}
	return s
}

// of reports whether a name is served, and whether its users are kept on disk.
func (s storage) of(name string) (served, kept bool) {
	if kept, served = s.blocks[name]; !served {
		if served = s.registered[name] != nil; served {
			kept = s.kept
		} else {
			kept, served = s.blocks["*"]
		}
	}
	return served, kept && s.disk
}

// purge deletes the records of the names that are served, but not kept, in one state, and kept in
// the other.
func (t *Table) purge(disk *store.WriteBehind, c change, without, with storage) {
	if disk == nil {
		return
	}
	outdated := func(name string) bool {
		served, kept := without.of(name)
		_, other := with.of(name)
		return served && !kept && other
	}
	names := c.names
	if c.all {
		names = t.stored(disk)
	}
	for _, name := range names {
		if outdated(name) {
			if err := <-disk.DeletePrefix(cache.RecordPrefix(name)); err != nil {
				t.env.Log.Error("cache on disk could not be emptied; run `postern cache flush`", "domain", name, "err", err)
			}
		}
	}
}

// stored lists the names of which there are records on disk.
func (t *Table) stored(disk *store.WriteBehind) (names []string) {
	err := disk.Store().Scan([]byte(store.Credentials), func(key, _ []byte) bool {
		if id, ok := cache.RecordIdentity(key); ok && (len(names) == 0 || names[len(names)-1] != id.Domain) {
			names = append(names, id.Domain)
		}
		return true
	})
	if err != nil {
		t.env.Log.Error("cache on disk could not be read", "err", err)
	}
	return names
}

// Start puts the first configuration in force. With a store, the records of the names that are not
// kept there now are deleted: what is learnt of them from here on would be missing, should they be
// kept there again after another start.
func (t *Table) Start(cfg *config.Config) error {
	p, err := t.Prepare(cfg, config.Diff(&config.Config{}, cfg))
	if err != nil {
		return err
	}
	none := map[string]*registered{}
	if disk := t.env.Disk(); disk != nil {
		for _, name := range t.readNames(disk.Store()) {
			none[name] = &registered{name: name}
		}
	}
	t.registered.Store(&none)
	p.swap()
	if disk := t.env.Disk(); disk != nil {
		t.claim(disk.Store(), cfg)
	}
	if disk := t.env.Disk(); disk != nil {
		now := t.storage()
		kept := storage{disk: true, blocks: map[string]bool{"*": true}}
		t.purge(disk, change{all: true}, now, kept)
	}
	p.prepareRosters()
	return nil
}

// reportDropped logs how many cached passwords a change of a block's backends has made invalid.
func (t *Table) reportDropped(ctx context.Context, block string, was, now *cache.Rules) {
	if !cache.Lost(was, now) {
		return
	}
	n, err := t.shards.Adapt(ctx, block)
	if disk := t.env.Disk(); disk != nil && now.Hashed {
		t.countDropped(disk, block, now, err)
		return
	}
	t.logDropped(block, n, err)
}

// countDropped logs how many passwords on disk are not valid by the rules in force.
func (t *Table) countDropped(disk *store.WriteBehind, block string, now *cache.Rules, err error) {
	n := 0
	err = errors.Join(err, t.eachRecord(disk, block, func(u *cache.User) { n += u.Settle(now) }))
	t.logDropped(block, n, err)
}

func (t *Table) logDropped(block string, n int, err error) {
	if n > 0 || err != nil {
		t.env.Log.Warn("domain has another backend: passwords that only the former one has accepted are not valid any more",
			"domain", block, "passwords", n, "err", err)
	}
}

// eachRecord calls do with the records on disk for which a block answers.
func (t *Table) eachRecord(disk *store.WriteBehind, block string, do func(*cache.User)) error {
	prefix := cache.RecordPrefix(block)
	if block == "*" {
		prefix = []byte(store.Credentials)
	}
	return disk.Store().Scan(prefix, func(key, record []byte) bool {
		if id, ok := cache.RecordIdentity(key); ok && t.answeredBy(block, id.Domain) {
			if user, err := cache.Decode(record); err == nil {
				do(user)
			}
		}
		return true
	})
}

// answeredBy reports whether a block answers for a name.
func (t *Table) answeredBy(block, name string) bool {
	r, reg := t.find(name)
	return r != nil && r.Name == block || r == nil && reg != nil && reg.name == block
}

// claim has the records of an upgraded store belong to the backends that a configuration names.
func (t *Table) claim(s store.Store, cfg *config.Config) {
	err := cache.Claim(s, func(name string) (auth.Authority, bool) {
		d := cfg.DomainFor(name)
		if r := t.registry.Load(); r != nil && (d == nil || d.Name != name) {
			if record, err := r.Get(name); err == nil {
				b, d := cfg.Registered(record.Domain, record.Kind, record.URL, record.Secret, record.AuthDomain)
				return d.Authorities([]config.Backend{b})[0], true
			}
		}
		if d == nil {
			return auth.Authority{}, false
		}
		return cfg.Whole(d)
	})
	if err != nil {
		t.env.Log.Error("passwords cached by postern 0.1.0 could not be taken over: they are asked about again", "err", err)
	}
}

// Plan is a new configuration of the domains and backends, made beside the one in force.
type Plan struct {
	table  *Table
	cfg    *config.Config
	next   *served
	fresh  []*Router                  // started, not served yet
	values map[*Router]*domain.Domain // new ones, also of routers that stay
	made   []*slots.Backend
}

// Prepare makes everything that is new in a configuration. An error means that nothing has changed.
func (t *Table) Prepare(cfg *config.Config, changes config.Changes) (*Plan, error) {
	p := &Plan{table: t, cfg: cfg, values: make(map[*Router]*domain.Domain), next: &served{
		cfg: cfg, routers: make(map[string]*Router, len(cfg.Domains)),
		backends: make(map[config.BackendRef]*slots.Backend, len(cfg.Backends)),
	}}
	if err := p.prepare(changes); err != nil {
		p.Undo()
		return nil, err
	}
	return p, nil
}

func (p *Plan) prepare(changes config.Changes) error {
	now := p.table.served.Load()
	another := names(changes.Backends, func(c config.Backend) config.BackendRef { return c.BackendRef })
	for _, c := range p.cfg.Backends {
		if !another[c.BackendRef] {
			p.next.backends[c.BackendRef] = now.backends[c.BackendRef]
			continue
		}
		b, err := p.table.newBackend(c)
		if err != nil {
			return err
		}
		p.made = append(p.made, b)
		p.next.backends[c.BackendRef] = b
	}
	changed := names(changes.Domains, func(c config.Domain) string { return c.Name })
	for _, c := range p.cfg.Domains {
		r := now.routers[c.Name]
		touched := changed[c.Name] || slices.ContainsFunc(c.Backends, func(r config.BackendRef) bool { return another[r] })
		if r == nil {
			var err error
			if r, err = p.table.newRouter(c.Name, p.table.env.System.ReserveName("domain:"+c.Name), true); err != nil {
				return err
			}
			p.fresh = append(p.fresh, r)
			touched = true
		}
		p.next.routers[c.Name] = r
		if !touched {
			continue
		}
		if c.Roster != nil {
			if err := p.table.startRosters(r); err != nil {
				return err
			}
		}
		d, err := domain.New(c, p.next.backends, r.Shared)
		if err != nil {
			return err
		}
		p.values[r] = d
	}
	return nil
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

// Undo takes down what Prepare made.
func (p *Plan) Undo() {
	for _, d := range p.values {
		d.Retire()
	}
	for _, r := range p.fresh {
		r.retire()
	}
	for _, b := range p.made {
		b.Retire()
	}
}

// swap puts the plan in force, and returns the routers of the blocks that are gone.
func (p *Plan) swap() (old []*Router) {
	t := p.table
	was := t.served.Load()
	for _, r := range p.fresh { // a router of the table has a value
		r.domain.Store(p.values[r])
		delete(p.values, r)
	}
	for r, d := range p.values {
		p.values[r] = r.domain.Swap(d)
	}
	t.served.Store(p.next)
	for name, r := range was.routers {
		if p.next.routers[name] != r {
			old = append(old, r)
		}
	}
	return old
}

// Commit puts a plan in force. disk is the store that comes with it, or nil. The error says that
// not all has followed.
func (p *Plan) Commit(ctx context.Context, disk *store.WriteBehind) error {
	t := p.table
	was := t.served.Load()
	before := *t.registered.Load()
	rules := !reflect.DeepEqual(rulesOf(was.cfg.Registry), rulesOf(p.cfg.Registry))
	c := p.change(was, disk)
	if rules {
		c.names = slices.AppendSeq(c.names, maps.Keys(before))
	}
	c.swap = func() []*Router {
		old := p.swap()
		t.registered.Store(&c.after.registered)
		for name, reg := range before {
			if rules {
				reg.change++
			}
			if p.next.routers[name] != nil { // its block stands before it
				old = append(old, t.unlink(reg)...)
			}
		}
		return old
	}
	if disk != nil { // what the domains learnt without it is not there
		t.purge(disk, change{all: true}, t.storage(), c.after)
		t.claim(disk.Store(), p.cfg)
		t.env.SetDisk(disk)
	}
	err := t.apply(ctx, c)
	p.retire(ctx, was)
	p.prepareRosters()
	if rules {
		t.alterAll(ctx)
	}
	return err
}

// change is what the plan changes, without its swap.
func (p *Plan) change(was *served, disk *store.WriteBehind) change {
	c := change{after: p.storage(), all: disk != nil}
	for _, list := range []map[string]*Router{was.routers, p.next.routers} {
		for name := range list {
			c.names = append(c.names, name)
			c.all = c.all || name == "*"
		}
	}
	for name := range was.routers {
		if p.next.routers[name] == nil {
			c.gone = append(c.gone, name)
		}
	}
	if disk != nil {
		c.after.disk = true
		c.after.registered = make(map[string]*registered)
		for _, name := range p.table.readNames(disk.Store()) {
			c.after.registered[name] = &registered{name: name}
			c.names = append(c.names, name)
		}
	}
	return c
}

// retire ends the use of the domain values and backends that the plan has replaced, and logs which
// cached passwords that makes void.
func (p *Plan) retire(ctx context.Context, was *served) {
	t := p.table
	for r, d := range p.values {
		if now := r.domain.Load(); now != nil {
			t.reportDropped(ctx, r.Name, &d.Rules, &now.Rules)
		}
		d.Retire()
	}
	for ref, b := range was.backends {
		if p.next.backends[ref] != b {
			b.Retire()
		}
	}
}

// rulesOf is what the value of each registered domain is made of.
func rulesOf(r config.Registry) config.Registry {
	r.Declared, r.Idle, r.MaxLive = false, 0, 0
	return r
}

// storage is how the table will stand.
func (p *Plan) storage() storage {
	s := p.table.storage()
	s.blocks = make(map[string]bool)
	s.kept = p.cfg.Registry.Cache.Storage == config.StorageDisk
	for _, d := range p.cfg.Domains {
		s.blocks[d.Name] = d.Cache.Storage == config.StorageDisk
	}
	return s
}

func (p *Plan) prepareRosters() {
	for _, r := range p.next.routers {
		if r.hasRoster() {
			r.roster.Prepare()
		}
	}
}

// alterAll gives the registered domains in use values by the rules in force.
func (t *Table) alterAll(ctx context.Context) {
	t.mu.Lock()
	live := slices.Collect(maps.Keys(t.live))
	t.mu.Unlock()
	for _, reg := range live {
		record, err := t.registry.Load().Get(reg.name)
		if err == nil {
			err = t.alter(ctx, reg, record)
		}
		if err != nil {
			t.env.Log.Error("registered domain keeps its former rules", "domain", reg.name, "err", err)
		}
	}
}

// Change runs do while nothing else changes the table. It is refused once the context of the
// process has ended.
func (t *Table) Change(do func() error) error {
	t.changing.Lock()
	defer t.changing.Unlock()
	if t.env.Context.Err() != nil {
		return fmt.Errorf("%w", ErrStopping)
	}
	return do()
}
