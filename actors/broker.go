// Package actors decides when: who runs, who waits, who is restarted, and by which moment a
// request has its answer. What is decided stands in internal/.
package actors

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
	"postern/internal/token"
)

// hashQueue bounds the password work that waits for a processor, per urgency.
const hashQueue = 512

// journalLimit bounds the single-use tokens that wait for the disk.
const journalLimit = 1024

// Options are what a broker is made of.
type Options struct {
	Config *config.Config
	// Backend makes a backend of its block; hashing is the machine-wide pool.
	Backend func(b config.Backend, hashing backend.Hashing) (backend.Backend, error)
	// Store may be nil: nothing is kept on disk then.
	Store store.Store
	Log   *slog.Logger
	// Broken makes a broker that answers every question "cannot tell": what stands in for one
	// whose configuration is not usable.
	Broken bool
	// Clock tells the time for tokens and cache; nil means time.Now.
	Clock func() time.Time

	inject func(actor string, message any) // tests: panic before a message is handled
}

// Broker is a running set of domains, backends and listeners.
type Broker struct {
	sys     *system
	log     *slog.Logger
	clock   func() time.Time
	keyer   *cache.Keyer
	seed    maphash.Seed
	broken  bool
	make    func(config.Backend, backend.Hashing) (backend.Backend, error)
	hashing *hashPool
	width   int       // workers of one kind in a domain
	replays []*replay // one for each of them

	table     atomic.Pointer[table]
	tenants   tenants
	settings  atomic.Pointer[config.Config] // of tenants: the configuration in force
	disk      atomic.Pointer[disk]          // nil without a store
	hidden    hidden                        // on disk
	shape     sync.RWMutex                  // held while the table changes, and by what walks through all of it
	reloading sync.Mutex                    // one reload at a time
	cfg       *config.Config                // in force; under reloading
	leaving   []*domain                     // taken out of use, the oldest first, and perhaps not stopped yet; under reloading

	arriving atomic.Int64    // connections accepted that are not in conns yet
	inFlight atomic.Int64    // calls admitted whose answer has not left
	draining atomic.Bool     // new requests are refused
	closing  atomic.Bool     // connections end
	ctx      context.Context // ends when the backends must let go
	cancel   context.CancelFunc

	mu        sync.Mutex
	domains   map[*domain]struct{}     // those with actors, also while they are taken out of use
	backends  map[*backendRef]struct{} // likewise
	listeners []*listener
	conns     map[*conn]struct{}
	counters  map[string]*counters // of fronts, by name; none is ever removed
	stopping  bool                 // Stop has begun
	burials   sync.WaitGroup
	connSeq   atomic.Uint64 // connections since the start
	seatSeq   atomic.Uint64
	idle      sync.WaitGroup // reader and accept goroutines
	pruning   atomic.Bool
	sweeps    atomic.Uint64 // rounds of the sweeper
	sweeper   chan struct{}
	swept     chan struct{}
}

// Start builds the actors of a configuration. Nothing listens yet: see Listen and Pipe.
func Start(o Options) (*Broker, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	b := &Broker{
		sys: newSystem(o.Log), log: o.Log, clock: o.Clock, keyer: cache.NewKeyer(), seed: maphash.MakeSeed(),
		broken: o.Broken, make: o.Backend, width: runtime.GOMAXPROCS(0),
		hashing:  newHashPool(runtime.GOMAXPROCS(0), hashQueue, o.Log),
		domains:  make(map[*domain]struct{}, len(o.Config.Domains)),
		backends: make(map[*backendRef]struct{}, len(o.Config.Backends)),
		conns:    make(map[*conn]struct{}), counters: make(map[string]*counters),
		sweeper: make(chan struct{}), swept: make(chan struct{}),
	}
	b.sys.inject = o.inject
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for range b.width {
		b.replays = append(b.replays, &replay{used: token.NewReplay(maxNonces)})
	}
	b.table.Store(new(table))
	b.settings.Store(o.Config)
	b.tenants.names.Store(new(map[string]*tenant))
	b.tenants.starts = make(chan struct{}, startsAtOnce)
	if o.Store != nil {
		b.open(b.openDisk(o.Store))
	}
	go b.sweep()
	if err := b.build(o.Config); err != nil {
		b.Stop()
		return nil, err
	}
	if o.Store != nil && !o.Broken {
		b.dropUnkept()
	}
	return b, nil
}

func (b *Broker) build(cfg *config.Config) error {
	t := &table{
		domains:  make(map[string]*domain, len(cfg.Domains)),
		backends: make(map[config.BackendRef]*backendRef, len(cfg.Backends)),
	}
	for _, c := range cfg.Backends {
		ref, err := b.newBackend(c)
		if err != nil {
			return err
		}
		t.backends[c.BackendRef] = ref
	}
	for _, c := range cfg.Domains {
		p, err := newParams(c, t.backends)
		if err != nil {
			return err
		}
		d := b.newDomain("domain:"+c.Name, c.Name, p)
		if err := d.start(); err != nil {
			return err
		}
		d.prepareRoster()
		t.domains[d.name] = d
	}
	b.cfg = cfg
	b.table.Store(t)
	return nil
}

// enter counts a call as in flight, unless the broker drains: what comes then is refused at
// once and is not waited for.
func (b *Broker) enter() bool {
	b.inFlight.Add(1)
	if b.draining.Load() {
		b.inFlight.Add(-1)
		return false
	}
	return true
}

// admit prepares a call of which Req, Received, Deadline and asker are set, and sends it on
// its way.
func (b *Broker) admit(c *Call, defaultDomain string) {
	if b.prepare(c, defaultDomain) {
		b.route(c)
	}
}

// prepare finds out whom a call is about. It is false if the call cannot be asked, or need not:
// then it has its answer.
func (b *Broker) prepare(c *Call, defaultDomain string) bool {
	if c.Req.Op == auth.OpIsDomain {
		c.Answer(b.isDomain(c))
		return false
	}
	id, err := c.Req.Identity(defaultDomain)
	if err == nil {
		err = c.Req.Check()
	}
	if err != nil {
		c.Trace.Add("request", err.Error())
		c.ID = auth.Identity{User: "", Domain: ""}
		c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed})
		return false
	}
	c.ID = id
	if c.Req.Op == auth.OpAuth {
		c.Key = b.keyer.Key(auth.OpAuth, id, c.Req.Secret)
	}
	c.hash = b.userHash(id)
	return true
}

// isDomain tells whether a domain is served here, which nobody need be asked about.
func (b *Broker) isDomain(c *Call) auth.Answer {
	a := auth.Answer{Verdict: auth.Deny, Source: auth.SourceUnknownDomain}
	domain, err := auth.FoldDomain(c.Req.Domain)
	switch {
	case b.broken:
		a = auth.Answer{Source: auth.SourceConfig}
	case err != nil:
		a.Source = auth.SourceMalformed
	case !b.serves(domain) && b.unsure():
		a = auth.Answer{Source: auth.SourceConfig}
	case b.serves(domain):
		c.ID.Domain = domain
		a = auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot}
	}
	return a
}

// serves reports whether anybody answers for a name. It starts nobody.
func (b *Broker) serves(name string) bool {
	d, t := b.find(name)
	return d != nil || t != nil
}

// unsure reports whether there are registered domains, perhaps, that cannot be read: of who
// does not stand in the file nobody can then tell that he is not served.
func (b *Broker) unsure() bool {
	return b.tenants.registry.Load() == nil && b.settings.Load().Registry.Declared
}

// route sends a call into its domain, unless none is to be sent.
func (b *Broker) route(c *Call) {
	if b.draining.Load() {
		c.Fail(auth.SourceDraining)
		return
	}
	if b.broken {
		c.Fail(auth.SourceConfig)
		return
	}
	b.dispatch(c)
}

// dispatch sends a call into its domain, of which it takes hold until it is answered.
func (b *Broker) dispatch(c *Call) {
	d, t := b.acquire(c.ID.Domain)
	if d == nil && t != nil {
		b.await(t, c)
		return
	}
	if d == nil && b.unsure() {
		c.Trace.Add("domain", "not configured; whether it is registered cannot be told, see the log")
		c.Fail(auth.SourceConfig)
		return
	}
	if d == nil {
		c.Trace.Add("domain", "not configured or registered, and there is no fallback domain \"*\"")
		c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceUnknownDomain})
		return
	}
	if t != nil {
		d.touch(c.Received)
	}
	c.domain.Store(d)
	if c.state.Load() != open { // its answer may have come before it had something to let go of
		c.letGo()
		return
	}
	d.enter(c)
}

// Connections is the number of connections: open now, and since the start.
func (b *Broker) Connections() (open int, ever uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns), b.connSeq.Load()
}

// Tree describes the actors, their queues, restarts and what is in flight, one line each.
func (b *Broker) Tree() []string {
	conns, _ := b.Connections()
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := []string{fmt.Sprintf("broker inflight=%d connections=%d goroutines=%d draining=%t",
		b.inFlight.Load(), conns, runtime.NumGoroutine(), b.draining.Load())}
	for r := range b.backends {
		lines = append(lines, fmt.Sprintf("%s slots=%d/%d withheld=%d slowed=%v", r.name, r.running.Load(), r.slots,
			r.withheld.Load(), time.Duration(r.delay.Load())))
	}
	for d := range b.domains {
		lines = append(lines, fmt.Sprintf("domain:%s limits user=%d address=%d budget=%d", d.name, d.byUser.Load(), d.byAddress.Load(), d.byBudget.Load()))
	}
	return append(lines, b.sys.Tree()...)
}
