package actors

import (
	"fmt"
	"sync"
	"time"

	"postern/internal/config"
	"postern/internal/store"
	"postern/internal/token"
)

// table is what the broker serves. It is immutable; a change puts another one in its place.
type table struct {
	domains  map[string]*domain // "*" is the fallback
	backends map[config.BackendRef]*backendRef
}

// lookup returns the domain that answers for a name: its own, or the fallback.
func (t *table) lookup(name string) *domain {
	if d := t.domains[name]; d != nil {
		return d
	}
	return t.domains["*"]
}

// disk is what the broker keeps on disk with.
type disk struct {
	store.Store
	journal *store.Group
}

// openDisk takes a store into use, and returns the domains registered there, which are busy. It
// may be called once, by Start or by the reload with which the first domain comes that wants one.
func (b *Broker) openDisk(s store.Store) []*tenant {
	b.disk.Store(&disk{s, store.NewGroup(s, journalLimit)})
	b.restoreNonces()
	return b.openRegistry(s)
}

// lookup returns the domain that answers for a name, without taking hold of it; nil if there is
// none, or it has no actors now.
func (b *Broker) lookup(name string) *domain {
	d, _ := b.find(name)
	return d
}

// acquire takes hold of the domain that answers for a name, whose actors then run until it is
// released, or returns the tenant whose actors must be started first, or none of both.
func (b *Broker) acquire(name string) (*domain, *tenant) {
	for {
		d, t := b.find(name)
		if d == nil || d.acquire() {
			return d, t
		}
		// It was retired a moment ago, after it had been taken out of the table.
	}
}

// newDomain makes a domain whose actors are not started yet; path is that of its supervisor.
func (b *Broker) newDomain(path, name string, p *params) *domain {
	d := &domain{name: name, path: path, broker: b, log: b.log, stopped: make(chan struct{}), gone: make(chan struct{})}
	d.router = b.sys.NewLocalPID(path + "/router")
	d.ended = func() { b.aside(func() { b.bury(d) }) }
	d.params.Store(p)
	d.roster = newRosterRef(d)
	for i := range b.width {
		d.tokens = append(d.tokens, &tokenRef{domain: d, replay: b.replays[i],
			pid: b.sys.NewLocalPID(fmt.Sprintf("%s/token%d", path, i))})
		d.shards = append(d.shards, &shardRef{domain: d, left: make(map[string]*shardRef),
			pid: b.sys.NewLocalPID(fmt.Sprintf("%s/cache%d", path, i))})
	}
	return d
}

// burialPatience is how long a domain that was taken out of use may be busy, far beyond every
// deadline, before its actors are stopped all the same, and then how long that may take before the
// log speaks of it.
const burialPatience = time.Minute

// retireDomain takes out of use a domain that is in the table no more: its actors answer what
// they have, write what is to be kept, and stop. d.gone is closed then.
func (b *Broker) retireDomain(d *domain) {
	d.watchdog = time.AfterFunc(burialPatience, func() {
		b.log.Error("a removed domain is still busy; stopping it", "domain", d.name)
		b.aside(func() { b.bury(d) })
	})
	d.retire()
}

// unwatch stops the clock that retireDomain started, if it did.
func (d *domain) unwatch() {
	if d.watchdog != nil {
		d.watchdog.Stop()
	}
}

// bury stops the actors of a domain; the cache's write what is not on disk yet. What has not
// stopped when the broker stops is Stop's.
func (b *Broker) bury(d *domain) {
	d.buried.Do(func() {
		d.unwatch()
		b.sys.Root.Stop(d.supervisor)
		if !b.awaitStopped(d) {
			return
		}
		b.sys.forget(d.paths()...)
		b.mu.Lock()
		delete(b.domains, d)
		b.mu.Unlock()
		d.params.Load().retire()
		close(d.gone)
	})
}

// awaitStopped waits until the actors of a domain have stopped, however long the disk keeps them.
// It is false if they do not before the broker stops, or soon after.
func (b *Broker) awaitStopped(d *domain) bool {
	slow := time.AfterFunc(burialPatience, func() {
		b.log.Error("the actors of a removed domain do not stop, as when the disk does not answer; until then its name is not served",
			"domain", d.name)
	})
	defer slow.Stop()
	select {
	case <-d.stopped:
		return true
	case <-b.ctx.Done():
	}
	select {
	case <-d.stopped:
		return true
	case <-time.After(2 * stopPatience): // as long as Stop waits for others
		return false
	}
}

// aside runs fn on a goroutine of its own, for which Stop waits. Once the broker stops, Stop
// itself does the work that fn would do, and aside is false.
func (b *Broker) aside(fn func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopping {
		return false
	}
	b.burials.Add(1)
	go func() {
		defer b.burials.Done()
		fn()
	}()
	return true
}

// replay is the memory of the single-use tokens of a share of the users, of all domains: it
// outlives every change of the configuration, so that none opens a used token again.
type replay struct {
	mu   sync.Mutex
	used *token.Replay
}

func (r *replay) use(n token.Nonce, now time.Time) (fresh, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used.Use(n, now)
}

func (r *replay) restore(n token.Nonce) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used.Restore(n)
}
