package actors

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"postern/internal/auth"
)

// rosterLater brings users back of whom the XMPP server has refused something.
type rosterLater struct{ ids []auth.Identity }

// judge returns who of a run is tried again. The others are done, or left until they log in.
func (a *rosterActor) judge(m *rosterDone) (again []auth.Identity) {
	room := rosterWaiting - len(a.held)
	if m.fault {
		room = rosterWaiting - len(a.waiting)
	}
	failed := make(map[auth.Identity]bool, len(m.again))
	for _, id := range m.again {
		failed[id] = true
	}
	left := 0
	for _, id := range m.batch {
		switch {
		case !failed[id]:
			delete(a.tries, id)
		case a.tries[id]+1 < rosterTries && len(again) < room:
			a.tries[id]++
			again = append(again, id)
		default:
			a.leave(id)
			left++
		}
	}
	if len(failed) > 0 {
		a.log.LogAttrs(a.broker.ctx, slog.LevelDebug, "shared rosters: some are tried again", slog.String("domain", m.batch[0].Domain),
			slog.Int("users", len(again)), slog.Int("left", left), slog.Bool("refused", !m.fault))
	}
	return again
}

// leave lets only the next login of a user count.
func (a *rosterActor) leave(id auth.Identity) {
	delete(a.tries, id)
	a.seen.Remove(id)
}

// hold keeps users back for a pause of their own. The XMPP server is in order: nobody else
// waits for what it refuses them, and they take nobody's room.
func (a *rosterActor) hold(ids []auth.Identity) {
	least := rosterTries
	var held []auth.Identity
	for _, id := range ids {
		if !a.waits[id] { // or they have logged in meanwhile
			a.held[id] = true
			held = append(held, id)
			least = min(least, a.tries[id])
		}
	}
	if len(held) > 0 {
		ref := a.rosterRef
		time.AfterFunc(rosterPause(a.first, least-1), func() { ref.send(&rosterLater{held}) })
	}
}

func (a *rosterActor) onLater(m *rosterLater) {
	rules := a.params.Load().roster
	if rules == nil {
		a.off()
		return
	}
	for _, id := range m.ids {
		switch {
		case !a.held[id]: // an administrator was faster
		case len(a.waiting) < rosterWaiting:
			a.wait(id)
		default:
			delete(a.held, id)
			a.leave(id)
		}
	}
	a.arm(rules.window)
}

// rosterPause is the pause after a failure that follows others.
func rosterPause(first time.Duration, others int) time.Duration {
	pause := min(first<<min(others, 20), rosterMost)
	return pause/2 + rand.N(pause/2+1)
}
