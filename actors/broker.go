package actors

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/actors/call"
	"postern/actors/changes"
	"postern/actors/env"
	"postern/actors/front"
	"postern/actors/memory"
	"postern/actors/metrics"
	"postern/actors/rosters"
	"postern/actors/router"
	"postern/actors/supervise"
	"postern/actors/tokens"
	"postern/internal/apppassword"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/recent"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// Options are what a broker is made of.
type Options struct {
	Config *config.Config
	// Backend makes a backend of its block; hashing is the machine-wide pool.
	Backend func(b config.Backend, hashing backend.Hashing) (backend.Backend, error)
	// Store may be nil: nothing is kept on disk then.
	Store store.Store
	// Former is what a former process has handed over; nil: nothing. It is taken as a whole or, with a
	// line in the log, not at all.
	Former *Memory
	Log    *slog.Logger
	Audit  *audit.Log  // nil: none
	Recent *recent.Log // gets the decisions of listeners; nil: none is remembered
	// Clock returns the time for tokens, cache and limits; nil means time.Now.
	Clock func() time.Time

	kernel supervise.Options // tests: faults, and pauses before restarts
}

// Broker is a running set of domains, backends and listeners.
type Broker struct {
	env       env.Env
	cancel    context.CancelFunc // of env.Context
	gate      call.Gate
	table     *router.Table
	shards    *memory.Shards
	tokens    *tokens.Workers
	front     *front.Server
	decisions *metrics.Decisions
	changes   *changes.Log
	news      atomic.Pointer[store.News] // of refusals; nil: there is no shared store
	sweeper   sweeper

	following sync.Mutex    // one after the other follows changes of registered domains
	followed  atomic.Uint64 // the store's term in which all were read

	offers    offers
	reloading sync.Mutex     // one reload at a time
	cfg       *config.Config // of the listeners in force; under reloading
}

// Start starts the actors of a configuration. Nothing listens yet: see Listen.
func Start(o Options) (*Broker, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.kernel.Log = o.Log
	system := supervise.NewSystem(o.kernel)
	b := &Broker{
		env: env.New(ctx, system, o.Log, o.Clock), cancel: cancel, decisions: metrics.NewDecisions(),
		cfg: &config.Config{Registry: o.Config.Registry},
	}
	b.env.Audit, b.env.Recent = o.Audit, o.Recent
	b.changes = changes.New(b.env)
	b.table = router.NewTable(b.env, func(c config.Backend) (backend.Backend, error) { return o.Backend(c, b.shards.Hashing.Run) })
	if err := b.start(o); err != nil {
		b.Stop()
		return nil, err
	}
	b.cfg = o.Config
	return b, nil
}

func (b *Broker) start(o Options) (err error) {
	width := memory.Processors()
	if b.shards, err = memory.Start(b.env, width, b.table); err != nil {
		return err
	}
	b.shards.Changes, b.shards.Strict = b.changes, o.Config.Store.Refuse
	b.changes.Watch("", time.Time{}, rosters.StartKicker(b.env, b.table.Current))
	if b.tokens, err = tokens.Start(b.env, width, b.shards.Ref); err != nil {
		return err
	}
	b.table.Connect(b.shards, b.tokens.Ref)
	b.front = front.NewServer(b.env, dispatcher{b}, &b.gate, b.decisions, b.changes)
	b.sweeper.start(b)
	if o.Store != nil {
		b.env.SetDisk(b.openDisk(o.Store))
		b.tokens.Restore()
		b.changes.Restore()
	}
	b.inherit(o.Former)
	if err := b.table.Start(o.Config); err != nil {
		return err
	}
	b.share(o.Config) // what other processes send is for backends that there are
	return b.shards.Claim(b.env.Context)
}

// openDisk has a store written to on a goroutine of its own.
func (b *Broker) openDisk(s store.Store) *store.WriteBehind {
	w := store.NewWriteBehind(s, b.shards.StoreWritten)
	if shared := w.Shared(); shared != nil {
		w.Share(b.mergeRecords, func(key string) { b.shards.Changed([]string{key}) })
		shared.Watch(b.changed)
	}
	return w
}

// mergeRecords says what to write of a record that two nodes have written at once.
func (b *Broker) mergeRecords(key string, mine, theirs []byte) ([]byte, bool) {
	if strings.HasPrefix(key, store.Credentials) {
		return cache.Merge(mine, theirs)
	}
	if strings.HasPrefix(key, store.AppPasswords) {
		return apppassword.MergeRecords(mine, theirs, unixtime.At(b.env.Clock()))
	}
	return mine, true
}

// changed takes the keys that other nodes have changed in the store.
func (b *Broker) changed(keys []string) {
	b.shards.Changed(keys)
	b.domainsChanged(keys)
	if news := b.news.Load(); news != nil && slices.Contains(keys, store.Refusals) {
		news.Look()
	}
	if slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(key, store.Changes) }) {
		b.env.System.Go(func() { b.changes.Read(keys) }) // it waits for the store
	}
}

// Listen starts to accept on a socket that the caller has opened and that the broker closes
// at its end.
func (b *Broker) Listen(cfg config.Listener, socket net.Listener) error {
	return b.front.Listen(cfg, socket)
}

// dispatcher sends calls on their way. It implements front.Router.
type dispatcher struct{ *Broker }

// Prepare finds out what a call is about. It is false if the call cannot be asked, or need not
// be: then it has its answer.
func (b dispatcher) Prepare(c *call.Call, defaultDomain string) bool {
	switch c.Req.Op {
	case auth.OpIsDomain:
		c.Answer(b.isDomain(c))
		return false
	case auth.OpWatch:
		b.watch(c)
		return false
	}
	if c.Req.Bearer && c.Req.User == "" && !b.named(c, defaultDomain) {
		return false
	}
	id, err := b.identity(c, defaultDomain)
	if err == nil {
		err = c.Req.Check()
	}
	if err != nil {
		c.Trace.Add("request", err.Error())
		c.ID = auth.Identity{User: "", Domain: ""}
		c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed, Reason: auth.FaultOf(err)})
		return false
	}
	c.ID, c.Name = id.Fold(), id.User
	if c.Req.Op == auth.OpAuth || c.Req.Op == auth.OpRemoveUser3 { // limits distinguish secrets by it
		c.Key = b.shards.Key(c.ID, c.Req.Secret, c.Req.Bearer)
	}
	c.Hash = b.shards.Hash(c.ID)
	return true
}

// named takes the user of a login from its token, where the peer may leave that out. It is false if the call has its
// answer.
func (b dispatcher) named(c *call.Call, defaultDomain string) bool {
	name, err := auth.FoldDomain(cmp.Or(c.Req.Domain, defaultDomain))
	if err != nil {
		return true // it is refused for that
	}
	d := b.table.Current(name)
	if d == nil {
		c.Answer(auth.Answer{Source: auth.SourceConfig, Reason: "the domain is not served, or cannot be used now"})
		return false
	}
	if c.Req.User = d.NamedBy(c.Req.Secret); c.Req.User != "" {
		return true
	}
	c.ID.Domain = name
	c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed, Reason: "neither the client nor the token says who the user is"})
	return false
}

// identity is the account that a call asks about.
func (b dispatcher) identity(c *call.Call, defaultDomain string) (auth.Identity, error) {
	id, err := c.Req.Identity(defaultDomain)
	if err != nil {
		return id, err
	}
	return b.account(id)
}

// account is the identity of an account for one as the XMPP server has it.
func (b *Broker) account(id auth.Identity) (auth.Identity, error) {
	var err error
	if strings.IndexByte(id.User, '\\') >= 0 {
		if d := b.table.Current(id.Domain); d != nil && d.Unescape {
			id.User, err = auth.UnescapeUser(id.User)
		}
	}
	return id, err
}

// Users implements front.Router.
func (b dispatcher) Users(ctx context.Context, domain string) ([]string, error) {
	return b.table.Users(ctx, domain)
}

// Limited implements front.Router.
func (b dispatcher) Limited(id auth.Identity, client string) bool {
	d := b.table.Current(id.Domain)
	return d != nil && b.shards.Limited(d, client)
}

// Refused implements front.Router.
func (b dispatcher) Refused(front string, id auth.Identity, client, hash string) {
	if d := b.table.Current(id.Domain); d != nil {
		b.shards.RefusedElsewhere(front, d, id.Fold(), client, hash)
	}
}

// XMPPUser implements front.Router.
func (b dispatcher) XMPPUser(id auth.Identity) string {
	if d := b.table.Current(id.Domain); d != nil {
		return d.XMPPUser(id.User)
	}
	return id.User
}

// isDomain answers whether a domain is served here, which needs no backend.
func (b dispatcher) isDomain(c *call.Call) auth.Answer {
	domain, err := auth.FoldDomain(c.Req.Domain)
	if err != nil {
		return auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed, Reason: auth.FaultOf(err)}
	}
	c.ID.Domain = domain
	has, err := b.table.Receives(domain)
	switch {
	case has:
		return auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot}
	case err != nil:
		return auth.Answer{Source: auth.SourceConfig, Reason: err.Error()}
	case b.table.RegistryLost():
		return auth.Answer{Source: auth.SourceConfig, Reason: "the registered domains cannot be read"}
	}
	return auth.Answer{Verdict: auth.Deny, Source: auth.SourceUnknownDomain, Reason: "not a domain of this machine"}
}

// watch answers that changes of a domain will be reported, and what the domain has. The connection does the
// former. Whether SCRAM is offered may have to be found out first.
func (b dispatcher) watch(c *call.Call) {
	domain, err := auth.FoldDomain(c.Req.Domain)
	if err != nil {
		c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed})
		return
	}
	c.ID.Domain = domain
	d := b.table.Current(domain)
	var flags auth.WatchFlags
	if d != nil && d.TOTP != nil {
		flags |= auth.WatchTokens
	}
	if d != nil && d.Told.Offered {
		flags |= auth.WatchBearer
	}
	answer := func(flags auth.WatchFlags) {
		c.Answer(auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot, Body: []byte{byte(flags)}})
	}
	if d == nil || d.Scram == nil && d.ScramFault == nil || !d.Acquire() {
		answer(flags)
		return
	}
	b.env.System.Go(func() { // it reads files, and the store
		defer d.Release()
		if b.offersScram(d, domain, c.Service) {
			flags |= auth.WatchScram
		}
		answer(flags)
	})
}

// Route sends a call to the router of its domain, unless the broker drains.
func (b dispatcher) Route(run *supervise.Runner, c *call.Call) {
	if b.gate.Draining() {
		c.Unavailable(auth.SourceDraining)
		return
	}
	b.table.Dispatch(run, c)
}

// Probe is a question put from within the process, with the record of its way.
type Probe struct {
	Answer auth.Answer
	Reason string // why the answer is no yes
	Took   time.Duration
	Steps  []call.TraceStep
}

// probe waits for the answer of a call without a connection.
type probe struct{ done chan struct{} }

// Answered implements call.Asker.
func (p *probe) Answered(*call.Call) { close(p.done) }

// Ask puts one request as a connection would, waits for its answer at most timeout, and
// returns each step of its way. The answer is never missing: at the end of timeout, or of
// ctx, it is a temporary failure.
func (b *Broker) Ask(ctx context.Context, req auth.Request, timeout time.Duration) Probe {
	c := &call.Call{Req: req, Trace: call.NewTrace(), Front: "control"}
	b.put(ctx, c, timeout)
	c.Log(b.env.Log)
	answer, took := c.Result()
	return Probe{Answer: answer, Reason: c.Why(), Took: took, Steps: c.Trace.Steps()}
}

// SignIn asks whether a password is the account's own, at its authority and at this moment, for a page of postern: see
// auth.Request.Own. The page is counted and logged like a listener of that name. An answer is never missing, as that of
// Ask. folds says that spellings of the account that differ by letter case are one.
func (b *Broker) SignIn(ctx context.Context, page string, req auth.Request, own auth.Own, timeout time.Duration) (a auth.Answer, folds bool) {
	req.Op, req.Fresh, req.Named, req.Service = auth.OpAuth, true, true, "web"
	c := &call.Call{Req: req, Returns: true}
	b.putOf(ctx, page, c, own, timeout)
	return c.Reply(), c.Domain != nil && c.Domain.Folds
}

// ChangePassword sets an account's password for a page of postern, to req.Secret. An answer is never missing,
// as that of Ask. It is a yes once the change is in force here.
func (b *Broker) ChangePassword(ctx context.Context, page string, req auth.Request, own auth.Own, timeout time.Duration) auth.Answer {
	req.Op, req.Named, req.Service = auth.OpSetPass, true, "web"
	c := &call.Call{Req: req}
	b.putOf(ctx, page, c, own, timeout)
	return c.Reply()
}

// putOf is put for a call that comes from a page.
func (b *Broker) putOf(ctx context.Context, page string, c *call.Call, own auth.Own, timeout time.Duration) {
	c.Front, c.Req.Own = page, &own
	b.put(ctx, c, timeout)
	call.NewLedger(page, b.decisions.Front(page), b.env.Log, b.env.Audit, b.env.Recent).Note(c, nil)
}

// put has a call answered within timeout.
func (b *Broker) put(ctx context.Context, c *call.Call, timeout time.Duration) {
	p := &probe{done: make(chan struct{})}
	now := time.Now()
	c.Received, c.Deadline, c.Asker, c.Service = now, now.Add(timeout), p, auth.FoldService(c.Req.Service)
	c.Counted = b.gate.Enter()
	if c.Counted {
		defer b.gate.Leave(1)
	}
	if d := (dispatcher{b}); d.Prepare(c, "") {
		d.Route(nil, c)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		c.Unavailable(auth.SourceDeadline)
		<-p.done
	case <-ctx.Done():
		c.Unavailable(auth.SourceStopping)
		<-p.done
	}
}

// Connections is the number of connections: open now, and since the start.
func (b *Broker) Connections() (open int, ever uint64) { return b.front.Connections() }

// Tree describes the actors, their queues, restarts and what is in flight, one line each.
func (b *Broker) Tree() []string {
	conns, _ := b.Connections()
	lines := []string{fmt.Sprintf("broker inflight=%d connections=%d goroutines=%d draining=%t",
		b.gate.InFlight(), conns, runtime.NumGoroutine(), b.gate.Draining())}
	return slices.Concat(lines, b.table.Describe(), b.env.System.Tree())
}

// sweepEvery is the pause between sweeps: an answer may miss its deadline by so much.
const sweepEvery = 20 * time.Millisecond

// pruneEvery is how often what has expired is removed from disk.
const pruneEvery = time.Minute

// sweeper does what is periodic: it ends every call that is past its deadline, whatever happened to
// it, the backstop behind everything else, and starts the clearing up. There is one per process.
type sweeper struct {
	rounds  atomic.Uint64
	tidying atomic.Bool
	pruning atomic.Bool
	stop    chan struct{}
	stopped chan struct{}
}

func (s *sweeper) start(b *Broker) {
	s.stop, s.stopped = make(chan struct{}), make(chan struct{})
	go s.run(b)
}

func (s *sweeper) run(b *Broker) {
	defer close(s.stopped)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	tidied := time.Now()
	pruned := tidied
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		s.rounds.Add(1)
		now := time.Now()
		if s.rounds.Load()%followRounds == 0 {
			b.followTerm()
		}
		if b.gate.InFlight() > 0 {
			b.front.Sweep(now)
		}
		if now.Sub(tidied) >= b.table.TidyPause(sweepEvery) && s.tidying.CompareAndSwap(false, true) {
			tidied = now
			b.table.Go(func() { defer s.tidying.Store(false); b.table.Tidy() })
		}
		if now.Sub(pruned) > pruneEvery && s.pruning.CompareAndSwap(false, true) {
			pruned = now
			b.table.Go(func() { // a slow disk must not delay the sweep
				defer s.pruning.Store(false)
				b.tokens.Prune()
				b.changes.Prune()
			})
		}
	}
}

// end ends the sweeper, if it was started.
func (s *sweeper) end() {
	if s.stop != nil {
		close(s.stop)
		<-s.stopped
	}
}

// Alive waits until every listed actor has handled all that was in its queue, and the sweeper
// has kept its time. The error names those that did not before ctx ended. No backend is asked: its
// outage is no fault of postern's.
func (b *Broker) Alive(ctx context.Context) error {
	swept := b.sweeper.rounds.Load()
	if err := b.env.System.Alive(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for b.sweeper.rounds.Load() == swept {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no sign of life from sweeper: %w", ctx.Err())
		}
	}
	return nil
}
