package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"postern/actors/domain"
	"postern/actors/slots"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/registry"
)

// ErrNoRegistry is wrapped when there is no store to keep registered domains in.
var ErrNoRegistry = errors.New("domains cannot be registered: the store is not open")

// errGone is why a registered domain has no value: it is not registered any more, or a block of
// its name takes precedence.
var errGone = errors.New("not registered any more")

// registered is a registered domain. It is known by its name only until the first call comes: that
// starts its router, which holds the calls back until the domain's record is read. A router without
// calls for a while is ended. A domain block of the same name takes precedence over it, and it
// over the fallback.
type registered struct {
	name   string
	router atomic.Pointer[Router] // nil while it is not in use
	change uint64                 // under Table.mu: bumped when what is being read is outdated
	record string                 // under Table.mu: of the value in force, encoded
}

// start returns the router of a registered domain, with a goroutine on its way that reads the
// domain if it was not in use. It is nil if the domain is not registered any more.
func (t *Table) start(reg *registered) (*Router, error) {
	t.mu.Lock()
	if !t.answers(reg) {
		t.mu.Unlock()
		return nil, nil
	}
	if r := reg.router.Load(); r != nil {
		t.mu.Unlock()
		return r, nil
	}
	t.starts++
	path := fmt.Sprintf("registered:%s#%d", reg.name, t.starts)
	t.mu.Unlock()
	r, err := t.newRouter(reg.name, path, false)
	if err != nil {
		return nil, err
	}
	r.used.Store(time.Now().UnixNano())
	t.mu.Lock()
	if other := reg.router.Load(); other != nil || !t.answers(reg) { // another call was faster, or a change
		t.mu.Unlock()
		r.retire()
		return other, nil
	}
	reg.router.Store(r)
	t.live[reg] = r
	t.mu.Unlock()
	if !t.Go(func() { t.resolve(reg, r) }) {
		return nil, ErrStopping
	}
	return r, nil
}

// answers reports whether a registered domain answers for its name. t.mu is held.
func (t *Table) answers(reg *registered) bool {
	return (*t.registered.Load())[reg.name] == reg && t.served.Load().routers[reg.name] == nil
}

// resolve reads a registered domain and puts its value in force, unless it turns out that another
// router answers for the name.
func (t *Table) resolve(reg *registered, r *Router) {
	err := t.read(reg, r)
	gone := errors.Is(err, registry.ErrUnknown)
	if gone {
		err = errGone
	}
	if err != nil {
		t.mu.Lock()
		if reg.router.CompareAndSwap(r, nil) {
			delete(t.live, reg)
			defer r.retire()
		}
		t.mu.Unlock()
		if !errors.Is(err, errGone) && !errors.Is(err, ErrStopping) {
			t.reportFault(reg.name, err)
		}
	}
	if gone {
		// Its removal is under way, or another process has removed it. Until the table knows, a call that is sent on
		// would come back at once.
		if err := t.Follow([]string{reg.name}, false); err != nil && t.env.Context.Err() == nil {
			t.reportFault(reg.name, err)
		}
	}
	m := &resolved{err}
	if err != nil {
		r.fault.Store(m)
	}
	r.ref.Send(m)
}

func (t *Table) reportFault(name string, err error) {
	if held, ok := t.faults.Due(time.Now()); ok {
		t.env.Log.Error("registered domain cannot be started; its logins are answered \"temporary failure\"",
			"domain", name, "err", err, "alike", held)
	}
}

func (t *Table) read(reg *registered, r *Router) error {
	select {
	case t.reading <- struct{}{}:
	case <-t.env.Context.Done():
		return ErrStopping
	}
	defer func() { <-t.reading }()
	for {
		t.mu.Lock()
		change := reg.change
		t.mu.Unlock()
		record, err := t.registry.Load().Get(reg.name)
		if err != nil {
			return err
		}
		d, err := t.registeredDomain(record, t.Config(), r.Shared)
		if err != nil {
			return err
		}
		t.mu.Lock()
		switch {
		case reg.router.Load() != r:
			err = errGone
		case reg.change == change:
			reg.record = string(record.Encode())
			r.replace(d)
			t.mu.Unlock()
			return nil
		}
		t.mu.Unlock()
		d.Retire()
		if err != nil {
			return err
		}
	}
}

// registeredDomain makes the value of a registered domain, and its backend, which lives as long.
func (t *Table) registeredDomain(r registry.Record, cfg *config.Config, shared *domain.Shared) (*domain.Domain, error) {
	bc, dc := cfg.Registered(r.Domain, r.Kind, r.URL, r.Secret, r.AuthDomain)
	b, err := t.newBackend(bc)
	if err != nil {
		return nil, err
	}
	defer b.Retire()
	return domain.New(dc, map[config.BackendRef]*slots.Backend{bc.BackendRef: b}, shared)
}

// changeTimeout bounds the wait for the shards to follow a change.
const changeTimeout = 10 * time.Second

// ChangeRegistry carries out a change of the registered domains, which names what it has written
// and deleted, and puts it into effect before it returns. Calls under way are answered.
func (t *Table) ChangeRegistry(change func(*registry.Registry) (put []registry.Record, deleted []string, err error)) error {
	t.changing.Lock()
	defer t.changing.Unlock()
	r := t.registry.Load()
	if r == nil {
		return fmt.Errorf("%w: add a registry {} block to the configuration and reload it, or see the log why it could not be opened", ErrNoRegistry)
	}
	if t.env.Context.Err() != nil {
		return ErrStopping
	}
	put, deleted, err := change(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.env.Context, changeTimeout)
	defer cancel()
	if err = t.register(ctx, put, deleted); t.env.Context.Err() != nil {
		return ErrStopping
	}
	return err
}

// Follow puts into effect what other processes have changed of these domains in a shared store, or with all of any.
func (t *Table) Follow(names []string, all bool) error {
	t.changing.Lock()
	defer t.changing.Unlock()
	disk := t.env.Disk()
	if !t.Config().Registry.Declared || disk == nil {
		return nil
	}
	r := t.registry.Load()
	if r == nil {
		r = registry.New(disk.Store())
	}
	was := *t.registered.Load()
	if all {
		there := make(map[string]bool)
		if err := r.Names(func(name string) { there[name] = true }); err != nil {
			return err
		}
		names = nil
		t.mu.Lock()
		for name := range there {
			if reg := was[name]; reg == nil || reg.router.Load() != nil {
				names = append(names, name)
			}
		}
		t.mu.Unlock()
		for name := range was {
			if !there[name] {
				names = append(names, name)
			}
		}
	}
	var put []registry.Record
	var deleted []string
	for _, name := range names {
		record, err := r.Get(name)
		switch reg := was[name]; {
		case errors.Is(err, registry.ErrUnknown):
			if reg != nil {
				deleted = append(deleted, name)
			}
		case errors.Is(err, registry.ErrRecord): // it is a fault when it is used
			if reg == nil {
				put = append(put, registry.Record{Domain: name})
			}
		case err != nil:
			return err
		default:
			t.mu.Lock()
			same := reg != nil && reg.record == string(record.Encode())
			t.mu.Unlock()
			if !same {
				put = append(put, record)
			}
		}
	}
	t.registry.CompareAndSwap(nil, r)
	if len(put)+len(deleted) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.env.Context, changeTimeout)
	defer cancel()
	return t.register(ctx, put, deleted)
}

// register puts records that were written, and names that were deleted, into effect.
func (t *Table) register(ctx context.Context, put []registry.Record, deleted []string) error {
	var errs []error
	was := *t.registered.Load()
	names := maps.Clone(was)
	var changed []string
	for _, record := range put {
		if reg := was[record.Domain]; reg != nil {
			errs = append(errs, t.alter(ctx, reg, record))
			continue
		}
		names[record.Domain] = &registered{name: record.Domain}
		changed = append(changed, record.Domain)
	}
	for _, name := range deleted {
		delete(names, name)
		changed = append(changed, name)
	}
	after := t.storage()
	after.registered = names
	err := t.apply(ctx, change{after: after, names: changed, gone: deleted, swap: func() (ended []*Router) {
		t.registered.Store(&names)
		for _, name := range deleted {
			if reg := was[name]; reg != nil {
				ended = append(ended, t.unlink(reg)...)
			}
		}
		return ended
	}})
	for _, name := range deleted {
		if t.served.Load().routers[name] == nil { // else its block has these users
			errs = append(errs, t.shards.Forget(ctx, func(id auth.Identity) bool { return id.Domain == name }, cache.RecordPrefix(name)))
		}
	}
	return errors.Join(append(errs, err)...)
}

// unlink takes the router of a registered domain out of the table, and returns it if there is one.
// t.mu is held.
func (t *Table) unlink(reg *registered) []*Router {
	reg.change++
	r := reg.router.Swap(nil)
	if r == nil {
		return nil
	}
	delete(t.live, reg)
	return []*Router{r}
}

// alter puts a changed record into effect.
func (t *Table) alter(ctx context.Context, reg *registered, record registry.Record) error {
	t.mu.Lock()
	reg.change++
	r := reg.router.Load()
	t.mu.Unlock()
	if r == nil || r.domain.Load() == nil { // what is being read is read once more
		t.reportIdle(record)
		return nil
	}
	d, err := t.registeredDomain(record, t.Config(), r.Shared)
	if err != nil {
		return fmt.Errorf("%s goes on as it was: %w", reg.name, err)
	}
	t.mu.Lock()
	was := d // it has fallen asleep, and reads the record when it is started again
	if reg.router.Load() == r {
		was, reg.record = r.domain.Swap(d), string(record.Encode())
	}
	t.mu.Unlock()
	was.Retire()
	t.reportDropped(ctx, reg.name, &was.Rules, &d.Rules)
	return nil
}

// reportIdle logs how many cached passwords are invalid under a record, of a domain that is not in use.
func (t *Table) reportIdle(r registry.Record) {
	disk, cfg := t.env.Disk(), t.Config()
	if disk == nil || cfg.Registry.Cache.Storage != config.StorageDisk {
		return
	}
	b, d := cfg.Registered(r.Domain, r.Kind, r.URL, r.Secret, r.AuthDomain)
	t.countDropped(disk, r.Domain, &cache.Rules{Authorities: d.Authorities([]config.Backend{b})}, nil)
}

// Bounds of ending idle routers.
const (
	tidyEvery  = time.Second // at most
	tidyAtOnce = 256         // routers ended in one round
)

// TidyPause is how long after one round of Tidy the next begins; at least least.
func (t *Table) TidyPause(least time.Duration) time.Duration {
	return min(max(t.Config().Registry.Idle/4, least), tidyEvery)
}

// Tidy ends the routers of registered domains that have had no call for a while, and of those idle
// the longest while there are more than should be. What only the memory of their users knew is
// written to disk; the rest, keyed MACs and refusals, is forgotten.
func (t *Table) Tidy() {
	limits := t.Config().Registry
	now := time.Now().UnixNano()
	type candidate struct {
		reg  *registered
		r    *Router
		used int64
	}
	var idle []candidate
	t.mu.Lock()
	excess := 0
	if limits.MaxLive > 0 {
		excess = len(t.live) - limits.MaxLive
	}
	for reg, r := range t.live {
		used := r.used.Load()
		if used > now && r.used.CompareAndSwap(used, now) { // the clock was set back
			used = now
		}
		if !r.calls.Held() && r.domain.Load() != nil {
			idle = append(idle, candidate{reg, r, used})
		}
	}
	t.mu.Unlock()
	slices.SortFunc(idle, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	for i, c := range idle[:min(len(idle), tidyAtOnce)] {
		if i >= excess && (limits.Idle == 0 || now-c.used < int64(limits.Idle)) {
			break
		}
		t.sleep(c.reg, c.r, c.used)
	}
}

// sleep ends an idle router, if no call is under way there and none came after used.
func (t *Table) sleep(reg *registered, r *Router, used int64) {
	t.mu.Lock()
	if r.used.Load() > used || reg.router.Load() != r || !r.calls.RetireUnheld() {
		t.mu.Unlock()
		return
	}
	t.shards.DropBlock(reg.name) // before the next router may be started
	reg.router.Store(nil)
	delete(t.live, reg)
	t.mu.Unlock()
	t.env.Log.Debug("registered domain is idle", "domain", reg.name)
	t.end(r)
}
