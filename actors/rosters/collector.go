package rosters

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/actors/domain"
	"postern/actors/supervise"
	"postern/internal/auth"
)

// collector is the actor. It gathers users and starts runs, and never waits.
//
// The users that wait are in memory only. The store marks what a run left half done, but it has no
// record of a user that no run has reached, which after an outage of the backend is nearly every
// user. What a crash loses, the next login of the user brings back.
type collector struct {
	*Roster
	asked   *simplelru.LRU[auth.Identity, time.Time] // when a login last led to a question
	pending map[auth.Identity]*pendingUser           // without those of the run under way
	count   [classes]int                             // of pending
	running bool
	faults  int // in a row

	waiting   bool        // for the end of a window
	idle      bool        // it is not a window: no user is due before its end
	timer     *time.Timer // ends it
	windowEnd time.Time   // of the last window
}

// pendingUser is a user that waits for a run.
type pendingUser struct {
	id        auth.Identity
	due       time.Time // the earliest time of the run
	tries     int       // runs in a row that failed for the user
	requested bool      // by an administrator
	deferred  bool      // a login within the interval after another
}

// class decides how many users may be pending. Each class has a bound of its own, so that failing
// users take no room from logins.
type class uint8

const (
	login     class = iota // maxWaiting
	deferred               // maxWaiting
	failing                // maxWaiting
	requested              // no bound
	classes
)

func (p *pendingUser) class() class {
	switch {
	case p.requested:
		return requested
	case p.tries > 0:
		return failing
	case p.deferred:
		return deferred
	}
	return login
}

func newCollector(r *Roster) *collector {
	c := &collector{Roster: r, pending: map[auth.Identity]*pendingUser{}}
	c.asked, _ = simplelru.NewLRU[auth.Identity, time.Time](maxSeen, nil)
	return c
}

// windowOver is the message of the collector's timer.
type windowOver struct{}

// runDone brings the result of a run.
type runDone struct {
	batch []*pendingUser
	runResult
}

// Receive implements actor.Actor.
func (c *collector) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *domain.LoginNote:
		c.onNote(m)
	case *windowOver:
		c.waiting, c.idle, c.windowEnd = false, false, time.Now()
		c.next()
	case *runDone:
		c.onDone(m)
	case *actor.Restarting, *actor.Stopping:
		if c.timer != nil {
			c.timer.Stop()
		}
	}
}

func (c *collector) onNote(n *domain.LoginNote) {
	cfg := c.config()
	if cfg == nil {
		return
	}
	now, clock := time.Now(), c.env.Clock()
	for _, id := range n.IDs {
		if p := c.pending[id]; p != nil {
			if n.Urgent {
				p.due = now
			}
			continue
		}
		p := &pendingUser{id: id, due: now, requested: n.Urgent}
		if last, ok := c.asked.Get(id); ok && clock.Sub(last) < cfg.Interval && !n.Urgent {
			p.due, p.deferred = now.Add(min(cfg.Interval-clock.Sub(last), cfg.Interval)), true
		}
		if c.count[p.class()] >= maxWaiting && !n.Urgent {
			c.logDropped(supervise.Overloaded)
			break
		}
		c.asked.Add(id, clock.Add(p.due.Sub(now)))
		c.add(p)
	}
	if n.Urgent {
		c.windowEnd = now
		c.next()
		return
	}
	if c.idle {
		c.timer.Stop()
		c.waiting, c.idle = false, false
	}
	c.wait(cfg.Window)
}

func (c *collector) add(p *pendingUser) {
	c.pending[p.id] = p
	c.count[p.class()]++
}

func (c *collector) remove(p *pendingUser) {
	delete(c.pending, p.id)
	c.count[p.class()]--
}

// next starts a run if a user was due when the last window ended. Else it begins another window, if
// users are pending.
func (c *collector) next() {
	cfg := c.config()
	if cfg == nil { // a reload has removed the roster block
		clear(c.pending)
		c.count = [classes]int{}
	}
	if c.running || len(c.pending) == 0 {
		return
	}
	var first *pendingUser
	for _, p := range c.pending {
		if first == nil || p.due.Before(first.due) {
			first = p
		}
	}
	if first.due.After(c.windowEnd) {
		rest := time.Until(first.due)
		c.idle = !c.waiting && rest > cfg.Window
		c.wait(max(cfg.Window, rest))
		return
	}
	c.start(first.id.Domain)
}

// wait has the next run begin after a while, unless the time is set already.
func (c *collector) wait(d time.Duration) {
	if c.running || c.waiting {
		return
	}
	c.waiting = true
	r := c.Roster
	c.timer = time.AfterFunc(d, func() { r.Ref.Send(&windowOver{}) })
}

// start starts a run for the users of one domain that are due; the block "*" has many domains.
// Users with a failed run come last, since some failures in a row end the questions of a run.
// Logins come before the users that an administrator asked for.
func (c *collector) start(domain string) {
	now := time.Now()
	var batch []*pendingUser
	for _, p := range c.pending {
		if p.id.Domain == domain && !p.due.After(now) {
			batch = append(batch, p)
		}
	}
	slices.SortFunc(batch, func(x, y *pendingUser) int {
		return cmp.Or(cmp.Compare(x.tries, y.tries), cmp.Compare(x.class(), y.class()), x.due.Compare(y.due), strings.Compare(x.id.User, y.id.User))
	})
	for len(batch) > maxWaiting {
		batch[len(batch)-1].due = now // after users of other domains that wait already
		batch = batch[:len(batch)-1]
	}
	ids := make([]auth.Identity, len(batch))
	for i, p := range batch {
		ids[i] = p.id
		c.remove(p)
	}
	c.running = true
	r := c.Roster
	c.env.System.Go(func() { r.Ref.Send(&runDone{batch, r.run(ids)}) })
}

func (c *collector) onDone(m *runDone) {
	c.running = false
	c.settle(m)
	if !m.fault {
		c.faults = 0
		c.next()
		return
	}
	c.wait(pauseAfter(c.firstPause, c.faults))
	c.faults++
}

// settle makes users of a run pending again: those it did not reach, and those it failed for, unless
// that was too often. Then only their next login counts. After a fault all runs pause, else only
// those of the failed users.
func (c *collector) settle(m *runDone) {
	failed := make(map[auth.Identity]bool, len(m.failed))
	for _, id := range m.failed {
		failed[id] = true
	}
	now := time.Now()
	due := map[int]time.Time{} // by tries: those that failed together are tried together
	again, unasked, left := 0, 0, 0
	for i, p := range m.batch {
		p.due = now
		switch {
		case i >= m.asked:
			unasked++
		case !failed[p.id]:
			continue
		case p.tries+1 >= maxTries || !p.requested && c.count[failing] >= maxWaiting:
			left++
			c.asked.Remove(p.id)
			continue
		default:
			again++
			if !m.fault {
				if due[p.tries].IsZero() {
					due[p.tries] = now.Add(pauseAfter(c.firstPause, p.tries))
				}
				p.due = due[p.tries]
			}
			p.tries++
		}
		if noted := c.pending[p.id]; noted != nil { // during the run
			if noted.due.Before(p.due) {
				p.due = noted.due
			}
			c.remove(noted)
		}
		c.add(p)
	}
	if len(failed) > 0 || unasked > 0 {
		c.env.Log.LogAttrs(c.env.Context, slog.LevelDebug, "shared rosters: some are tried again", slog.String("domain", m.batch[0].id.Domain),
			slog.Int("users", again), slog.Int("unasked", unasked), slog.Int("left", left), slog.Bool("fault", m.fault))
	}
}

// pauseAfter is the pause after a failure that follows others.
func pauseAfter(first time.Duration, others int) time.Duration {
	pause := min(first<<min(others, 20), longestPause)
	return pause/2 + rand.N(pause/2+1)
}
