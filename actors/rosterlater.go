package actors

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"postern/internal/auth"
)

// rosterLater brings users back of whom the XMPP server has refused something, or of whom the
// backend told nothing while it told of others.
type rosterLater struct{ ids []auth.Identity }

// judge returns who of a run is tried again, and who has not been tried yet. The others are done,
// or left until they log in.
func (a *rosterActor) judge(m *rosterDone) (again, unasked []auth.Identity) {
	left, room := 0, rosterWaiting-len(a.waiting)
	for _, id := range m.batch[m.asked:] {
		if len(unasked) < room {
			unasked = append(unasked, id)
			continue
		}
		a.leave(id)
		left++
	}
	if room -= len(unasked); !m.fault {
		room = rosterWaiting - len(a.held)
	}
	failed := make(map[auth.Identity]bool, len(m.again))
	for _, id := range m.again {
		failed[id] = true
	}
	for _, id := range m.batch[:m.asked] {
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
	if len(failed) > 0 || len(unasked) > 0 {
		a.log.LogAttrs(a.broker.ctx, slog.LevelDebug, "shared rosters: some are tried again", slog.String("domain", m.batch[0].Domain),
			slog.Int("users", len(again)), slog.Int("unasked", len(unasked)), slog.Int("left", left), slog.Bool("fault", m.fault))
	}
	return again, unasked
}

// leave lets only the next login of a user count.
func (a *rosterActor) leave(id auth.Identity) {
	delete(a.tries, id)
	a.seen.Remove(id)
}

// refill lets in some of those for whom there was no room. Half of it is left to logins.
func (a *rosterActor) refill() {
	n := min(len(a.backlog), max(0, rosterWaiting/2-len(a.waiting)))
	a.waiting = append(a.waiting, a.backlog[:n]...)
	if a.backlog = a.backlog[n:]; len(a.backlog) == 0 {
		a.backlog = nil
	}
}

// hold keeps users back for a pause of their own. Backend and XMPP server are in order: nobody
// else waits for what these users lack, and they take nobody's room.
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
