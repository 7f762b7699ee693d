package actors

import (
	"cmp"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/roster"
)

// Bounds and pauses of shared rosters.
const (
	rosterQueue   = 1024  // notes on their way to the actor
	rosterWaiting = 4096  // users that wait for a run, and as many that were refused
	rosterSeen    = 65536 // users of whom the last question is remembered
	rosterTries   = 20    // runs that may fail for a user before only the next login counts
	rosterFirst   = 5 * time.Second
	rosterMost    = 5 * time.Minute
)

// rosterRef is the shared rosters of a domain as the rest of the broker sees them. Like the
// domain it stays when the configuration changes.
type rosterRef struct {
	*domain
	patience time.Duration // with one question to a backend
	first    time.Duration // pause after the first failure

	pid  *actor.PID
	turn chan struct{} // held by whoever talks to the server: one run at a time

	dropped  nag
	failures nag
	odd      nag
	storage  nag
}

// rosterPatience bounds one question to a backend: nobody waits for it.
const rosterPatience = time.Minute

func newRosterRef(d *domain) *rosterRef {
	return &rosterRef{
		domain: d, patience: rosterPatience, first: rosterFirst, turn: make(chan struct{}, 1),
		pid: d.broker.sys.NewLocalPID(d.path + "/roster"),
	}
}

// rosterRules are what the configuration says of a domain's shared rosters.
type rosterRules struct {
	server   roster.Server
	filter   roster.Filter
	window   time.Duration
	interval time.Duration
}

// newRosterRules makes the rules of a roster block; nil without one.
func newRosterRules(cfg *config.Roster) *rosterRules {
	if cfg == nil {
		return nil
	}
	r := &rosterRules{
		window: cfg.Window, interval: cfg.MinInterval,
		filter: roster.Filter{Include: cfg.Include, Exclude: cfg.Exclude, MaxMembers: cfg.MaxMembers},
	}
	switch {
	case cfg.Kind == config.RosterProsody:
		r.server = roster.NewGroupsFile(cfg.GroupsFile, cfg.Reload, cfg.Timeout)
	case cfg.API != "":
		r.server = roster.NewServer(roster.NewEjabberdAPI(cfg.API, cfg.Token, cfg.Timeout))
	default:
		r.server = roster.NewServer(roster.NewEjabberdctl(cfg.Ejabberdctl, cfg.Timeout))
	}
	return r
}

func (r *rosterRules) close() {
	if r != nil {
		r.server.Close()
	}
}

// prepareRoster does what the XMPP server needs to find at its start.
func (d *domain) prepareRoster() {
	rules := d.params.Load().roster
	if rules == nil || d.name == "*" {
		return
	}
	disk := d.broker.disk.Load()
	if disk == nil {
		d.log.Error("shared rosters are off: they need the store, which could not be opened", "domain", d.name)
		return
	}
	if err := rules.server.Prepare(roster.State{Store: disk, Domain: d.name}); err != nil {
		d.log.Error("shared rosters could not be prepared", "domain", d.name, "err", err)
	}
}

// noteLogin tells the roster of a domain, if it has one, of a successful login. It never waits.
func (b *Broker) noteLogin(c *Call) {
	if c.Req.Op != auth.OpAuth {
		return
	}
	if d := b.lookup(c.ID.Domain); d != nil && d.params.Load().roster != nil {
		d.roster.send(&rosterNote{ref: d.roster, ids: []auth.Identity{roster.Login(c.ID)}})
	}
}

func (r *rosterRef) send(message any) { r.broker.sys.Root.Send(r.pid, message) }

// rosterNote asks for the rosters of users to be brought up to date.
type rosterNote struct {
	ref    *rosterRef
	ids    []auth.Identity
	urgent bool // by an administrator: the interval does not count
}

var _ request = (*rosterNote)(nil)

// Fail implements request. A note that is lost comes again with the user's next login.
func (n *rosterNote) Fail(why auth.Source) {
	if why == auth.SourceStopping {
		return
	}
	if held, ok := n.ref.dropped.due(time.Now()); ok {
		n.ref.log.Warn("shared rosters: logins were passed over; their next ones count", "domain", n.ref.name, "why", why.String(), "alike", held)
	}
}

// rosterDone tells the actor how a run went.
type rosterDone struct {
	batch []auth.Identity // those it was for
	asked int             // so many of them, the first, were asked about
	again []auth.Identity // those of the asked to be asked about again
	fault bool            // nobody was answered, or the XMPP server could not: no run before a pause
}

// rosterActor collects users and starts runs. It waits for nothing.
type rosterActor struct {
	*rosterRef
	seen    *simplelru.LRU[auth.Identity, time.Time]
	waiting []auth.Identity
	due     int             // so many of them, the first, have waited long enough
	backlog []auth.Identity // whom an administrator asked for when there was no room
	waits   map[auth.Identity]bool
	held    map[auth.Identity]bool // who comes back later
	tries   map[auth.Identity]int  // runs in a row that failed for a user
	timer   *time.Timer
	armed   bool
	running bool
	faults  int // failed runs in a row
}

func newRosterActor(r *rosterRef) *rosterActor {
	a := &rosterActor{rosterRef: r, waits: map[auth.Identity]bool{}, held: map[auth.Identity]bool{}, tries: map[auth.Identity]int{}}
	a.seen, _ = simplelru.NewLRU[auth.Identity, time.Time](rosterSeen, nil)
	return a
}

// Receive implements actor.Actor.
func (a *rosterActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *rosterNote:
		a.onNote(m)
	case *tick:
		a.armed, a.due = false, len(a.waiting)
		a.start()
	case *rosterDone:
		a.onDone(m)
	case *rosterLater:
		a.onLater(m)
	case *actor.Restarting, *actor.Stopping:
		if a.timer != nil {
			a.timer.Stop()
		}
	}
}

func (a *rosterActor) onNote(n *rosterNote) {
	rules := a.params.Load().roster
	if rules == nil {
		return
	}
	now := a.broker.clock()
	for _, id := range n.ids {
		if last, ok := a.seen.Get(id); ok && now.Sub(last) < rules.interval && !n.urgent || a.waits[id] || a.held[id] && !n.urgent {
			continue
		}
		if len(a.waiting) >= rosterWaiting && !n.urgent {
			n.Fail(auth.SourceOverload)
			break
		}
		a.seen.Add(id, now)
		a.wait(id)
	}
	if n.urgent && !a.running {
		a.start()
	}
	a.arm(rules.window)
}

func (a *rosterActor) wait(id auth.Identity) {
	delete(a.held, id)
	switch {
	case a.waits[id]:
	case len(a.waiting) >= rosterWaiting:
		a.backlog = append(a.backlog, id)
	default:
		a.waiting = append(a.waiting, id)
	}
	a.waits[id] = true
}

// arm has the next run begin after a while, if somebody waits and no time is set.
func (a *rosterActor) arm(after time.Duration) {
	if a.armed || a.running {
		return
	}
	a.refill()
	if len(a.waiting) == 0 {
		return
	}
	a.armed = true
	ref := a.rosterRef
	a.timer = time.AfterFunc(after, func() { ref.send(tickMessage) })
}

// start runs for those who wait, all of one domain: the block "*" has many. Those who have failed
// before come last, for some failures in a row end the questions of a run.
func (a *rosterActor) start() {
	if a.running || len(a.waiting) == 0 {
		return
	}
	var batch, rest []auth.Identity
	due := 0
	for i, id := range a.waiting {
		if id.Domain == a.waiting[0].Domain {
			batch = append(batch, id)
			delete(a.waits, id)
			continue
		}
		if rest = append(rest, id); i < a.due {
			due++
		}
	}
	slices.SortStableFunc(batch, func(x, y auth.Identity) int { return cmp.Compare(a.tries[x], a.tries[y]) })
	a.waiting, a.due, a.running = rest, due, true
	ref := a.rosterRef
	a.broker.sys.pool.Schedule(func() { ref.run(batch) })
}

func (a *rosterActor) onDone(m *rosterDone) {
	a.running = false
	rules := a.params.Load().roster
	if rules == nil { // a reload has switched it off
		a.off()
		return
	}
	again, unasked := a.judge(m)
	for _, id := range unasked {
		a.wait(id)
	}
	if m.fault {
		for _, id := range again {
			a.wait(id)
		}
		a.arm(rosterPause(a.first, a.faults))
		a.faults++
		return
	}
	a.faults = 0
	a.hold(again)
	if a.due > 0 { // of other domains, who waited along
		a.start()
		return
	}
	a.arm(rules.window)
}

func (a *rosterActor) off() {
	a.waiting, a.due, a.backlog = nil, 0, nil
	clear(a.waits)
	clear(a.held)
	clear(a.tries)
}
