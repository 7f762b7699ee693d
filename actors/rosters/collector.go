package rosters

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/actors/domain"
	"postern/actors/supervise"
	"postern/internal/auth"
)

// collector is the actor: it gathers users and starts runs. It never waits.
type collector struct {
	*Roster
	seen    *simplelru.LRU[auth.Identity, time.Time]
	waiting []auth.Identity
	due     int             // so many of them, the first, have waited long enough
	backlog []auth.Identity // those an administrator asked for when there was no room
	waits   map[auth.Identity]bool
	held    map[auth.Identity]bool // those that come back later
	tries   map[auth.Identity]int  // runs in a row that failed for a user
	timer   *time.Timer
	armed   bool
	running bool
	faults  int // failed runs in a row
}

func newCollector(r *Roster) *collector {
	a := &collector{Roster: r, waits: map[auth.Identity]bool{}, held: map[auth.Identity]bool{}, tries: map[auth.Identity]int{}}
	a.seen, _ = simplelru.NewLRU[auth.Identity, time.Time](maxSeen, nil)
	return a
}

// runTick is the message of the collector's timer.
type runTick struct{}

// runDone tells the actor how a run went.
type runDone struct {
	batch []auth.Identity // those it was for
	asked int             // so many of them, the first, were asked about
	again []auth.Identity // those of the asked to be asked about again
	fault bool            // see runResult
}

// retryTick brings users back of whom the XMPP server has refused something, or of whom the
// backend said nothing while it answered about others.
type retryTick struct{ ids []auth.Identity }

// Receive implements actor.Actor.
func (a *collector) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *domain.LoginNote:
		a.onNote(m)
	case *runTick:
		a.armed, a.due = false, len(a.waiting)
		a.start()
	case *runDone:
		a.onDone(m)
	case *retryTick:
		a.onRetryTick(m)
	case *actor.Restarting, *actor.Stopping:
		if a.timer != nil {
			a.timer.Stop()
		}
	}
}

func (a *collector) onNote(n *domain.LoginNote) {
	cfg := a.config()
	if cfg == nil {
		return
	}
	now := a.env.Clock()
	for _, id := range n.IDs {
		if last, ok := a.seen.Get(id); ok && now.Sub(last) < cfg.Interval && !n.Urgent || a.waits[id] || a.held[id] && !n.Urgent {
			continue
		}
		if len(a.waiting) >= maxWaiting && !n.Urgent {
			a.logDropped(supervise.Overloaded)
			break
		}
		a.seen.Add(id, now)
		a.wait(id)
	}
	if n.Urgent && !a.running {
		a.start()
	}
	a.arm(cfg.Window)
}

func (a *collector) wait(id auth.Identity) {
	delete(a.held, id)
	switch {
	case a.waits[id]:
	case len(a.waiting) >= maxWaiting:
		a.backlog = append(a.backlog, id)
	default:
		a.waiting = append(a.waiting, id)
	}
	a.waits[id] = true
}

// arm has the next run begin after a while, if somebody waits and no time is set.
func (a *collector) arm(after time.Duration) {
	if a.armed || a.running {
		return
	}
	a.refill()
	if len(a.waiting) == 0 {
		return
	}
	a.armed = true
	r := a.Roster
	a.timer = time.AfterFunc(after, func() { r.Ref.Send(&runTick{}) })
}

// start runs for those who wait, all of one domain: the block "*" has many. Those who have failed
// before come last, for some failures in a row end the questions of a run.
func (a *collector) start() {
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
	r := a.Roster
	a.env.System.Go(func() {
		result := r.run(batch)
		r.Ref.Send(&runDone{batch: batch, asked: result.asked, again: result.failed, fault: result.fault})
	})
}

func (a *collector) onDone(m *runDone) {
	a.running = false
	cfg := a.config()
	if cfg == nil { // a reload has switched it off
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
		a.arm(pauseAfter(a.firstPause, a.faults))
		a.faults++
		return
	}
	a.faults = 0
	a.hold(again)
	if a.due > 0 { // of other domains, who waited along
		a.start()
		return
	}
	a.arm(cfg.Window)
}

func (a *collector) off() {
	a.waiting, a.due, a.backlog = nil, 0, nil
	clear(a.waits)
	clear(a.held)
	clear(a.tries)
}

// judge returns who of a run is tried again, and who has not been tried yet. The others are done,
// or left until they log in.
func (a *collector) judge(m *runDone) (again, unasked []auth.Identity) {
	left, room := 0, maxWaiting-len(a.waiting)
	for _, id := range m.batch[m.asked:] {
		if len(unasked) < room {
			unasked = append(unasked, id)
			continue
		}
		a.giveUp(id)
		left++
	}
	if room -= len(unasked); !m.fault {
		room = maxWaiting - len(a.held)
	}
	failed := make(map[auth.Identity]bool, len(m.again))
	for _, id := range m.again {
		failed[id] = true
	}
	for _, id := range m.batch[:m.asked] {
		switch {
		case !failed[id]:
			delete(a.tries, id)
		case a.tries[id]+1 < maxTries && len(again) < room:
			a.tries[id]++
			again = append(again, id)
		default:
			a.giveUp(id)
			left++
		}
	}
	if len(failed) > 0 || len(unasked) > 0 {
		a.env.Log.LogAttrs(a.env.Context, slog.LevelDebug, "shared rosters: some are tried again", slog.String("domain", m.batch[0].Domain),
			slog.Int("users", len(again)), slog.Int("unasked", len(unasked)), slog.Int("left", left), slog.Bool("fault", m.fault))
	}
	return again, unasked
}

// leave lets only the next login of a user count.
func (a *collector) giveUp(id auth.Identity) {
	delete(a.tries, id)
	a.seen.Remove(id)
}

// refill lets in some of those for whom there was no room. Half of it is left to logins.
func (a *collector) refill() {
	n := min(len(a.backlog), max(0, maxWaiting/2-len(a.waiting)))
	a.waiting = append(a.waiting, a.backlog[:n]...)
	if a.backlog = a.backlog[n:]; len(a.backlog) == 0 {
		a.backlog = nil
	}
}

// hold keeps users back for a pause of their own. Backend and XMPP server are in order: nobody
// else waits for what these users lack, and they take nobody's room.
func (a *collector) hold(ids []auth.Identity) {
	least := maxTries
	var held []auth.Identity
	for _, id := range ids {
		if !a.waits[id] { // or they have logged in meanwhile
			a.held[id] = true
			held = append(held, id)
			least = min(least, a.tries[id])
		}
	}
	if len(held) > 0 {
		r := a.Roster
		time.AfterFunc(pauseAfter(a.firstPause, least-1), func() { r.Ref.Send(&retryTick{held}) })
	}
}

func (a *collector) onRetryTick(m *retryTick) {
	cfg := a.config()
	if cfg == nil {
		a.off()
		return
	}
	for _, id := range m.ids {
		switch {
		case !a.held[id]: // an administrator was faster
		case len(a.waiting) < maxWaiting:
			a.wait(id)
		default:
			delete(a.held, id)
			a.giveUp(id)
		}
	}
	a.arm(cfg.Window)
}

// pauseAfter is the pause after a failure that follows others.
func pauseAfter(first time.Duration, others int) time.Duration {
	pause := min(first<<min(others, 20), longestPause)
	return pause/2 + rand.N(pause/2+1)
}
