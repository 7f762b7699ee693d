package actors

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
)

// Bounds of mailboxes: a full one answers "cannot tell" at once.
const (
	routerQueue = 4096
	workerQueue = 4096
	quietQueue  = 1 << 20 // actors whose senders are bounded otherwise
)

// domain is what the broker knows of a domain that takes requests: its actors, which run as long
// as the name is configured, or registered and in use, and what they have in common. It outlives
// restarts of its actors.
type domain struct {
	lease               // held by calls that are not answered, and by tasks
	name   string       // canonical, or "*"
	path   string       // name of its supervisor
	used   atomic.Int64 // registered only: when a request came last, in Unix nanoseconds
	broker *Broker
	log    *slog.Logger
	params atomic.Pointer[params]
	roster *rosterRef // for the time in which the parameters have shared rosters

	userNag, addressNag nag // of those who become limited

	byUser, byAddress, byBudget atomic.Int64 // questions not asked for a limit

	supervisor *actor.PID
	router     *actor.PID
	tokens     []*tokenRef
	shards     []*shardRef

	watchdog *time.Timer
	buried   sync.Once
	stopped  chan struct{} // closed by the supervisor when all actors have stopped
	gone     chan struct{} // closed when nothing of the domain is left
}

// over reports whether the actors of a domain that was taken out of use have stopped.
func (d *domain) over() bool {
	select {
	case <-d.gone:
		return true
	default:
		return false
	}
}

// shardOf returns the shard that owns a user.
func (d *domain) shardOf(hash uint64) *shardRef { return d.shards[hash%uint64(len(d.shards))] }

func (d *domain) tokenOf(hash uint64) *tokenRef { return d.tokens[hash%uint64(len(d.tokens))] }

// enter sends a call to the first who may answer it. This needs nothing but the domain's
// parameters, so the hot path goes straight to its worker; the router sees what memory could
// not answer.
func (d *domain) enter(c *Call) {
	if c.stage == stageSlow {
		// It comes from another domain, where others may wait for it: were it to wait for
		// one of them here, none would ever be answered.
		d.shardOf(c.hash).send(c)
		return
	}
	if p := d.params.Load(); c.Req.Op == auth.OpAuth && (p.jsxc != nil || p.totp != nil) {
		if p.mayBeToken(c.Req.Secret) {
			c.stage = stageToken
			d.tokenOf(c.hash).send(c)
			return
		}
		c.Trace.Add("token", "not a token")
	}
	c.stage = stageHot
	d.shardOf(c.hash).send(c)
}

// start spawns the domain's actors: a supervisor that carries no traffic, with the router
// and the workers as its children, so that no panic of one stops another.
func (d *domain) start() error {
	sys := d.broker.sys
	ready := make(chan struct{})
	pid, err := sys.spawnRoot(d.path, quietQueue, true, func() actor.Actor {
		return &supervisor{ready: ready, stopped: d.stopped, children: d.children}
	})
	if err != nil {
		return err
	}
	d.supervisor = pid
	d.broker.mu.Lock()
	d.broker.domains[d] = struct{}{}
	d.broker.mu.Unlock()
	<-ready
	return nil
}

// children lists what a domain's supervisor starts.
func (d *domain) children() []child {
	prefix := d.path + "/"
	list := []child{{"router", d.broker.sys.props(prefix+"router", routerQueue, true, func() actor.Actor {
		return newRouter(d)
	})}}
	for i, t := range d.tokens {
		name := fmt.Sprintf("token%d", i)
		list = append(list, child{name, d.broker.sys.props(prefix+name, workerQueue, true, func() actor.Actor {
			return &tokenWorker{tokenRef: t}
		})})
	}
	list = append(list, child{"roster", d.broker.sys.props(prefix+"roster", rosterQueue, true, func() actor.Actor {
		return newRosterActor(d.roster)
	})})
	for i, s := range d.shards {
		name := fmt.Sprintf("cache%d", i)
		list = append(list, child{name, d.broker.sys.props(prefix+name, workerQueue, true, func() actor.Actor {
			return newShard(s)
		})})
	}
	return list
}

// paths are the names of the domain's actors.
func (d *domain) paths() []string {
	list := []string{d.path, d.path + "/router", d.path + "/roster"}
	for i := range d.tokens {
		list = append(list, fmt.Sprintf("%s/token%d", d.path, i))
	}
	for i := range d.shards {
		list = append(list, fmt.Sprintf("%s/cache%d", d.path, i))
	}
	return list
}

// child is an actor that a supervisor starts, by name.
type child struct {
	name  string
	props *actor.Props
}

// supervisor starts its children, restarts them when they panic, and tells when they have stopped;
// it does nothing else. A future of the library gives up after 10 s, and one that is made while the
// children are stopping is told at once that they have.
type supervisor struct {
	ready    chan struct{} // closed after the first start
	stopped  chan struct{} // closed at the end
	children func() []child
}

// Receive implements actor.Actor.
func (s *supervisor) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started:
		s.start(ctx)
	case *actor.Stopped:
		close(s.stopped)
	}
}

func (s *supervisor) start(ctx actor.Context) {
	for _, c := range s.children() {
		if _, err := ctx.SpawnNamed(c.props, c.name); err != nil {
			panic(fmt.Errorf("start actor %s: %w", c.name, err))
		}
	}
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
}
