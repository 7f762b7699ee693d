package rosters

import (
	"context"

	"postern/actors/changes"
	"postern/actors/domain"
	"postern/actors/env"
	"postern/internal/roster"
)

// maxKicks bounds the users with sessions that are still to be ended.
const maxKicks = 1024

// Kicker ends the sessions of users at ejabberd after changes of their accounts, one after the other, for
// the domains that say so.
type Kicker struct {
	env     env.Env
	current func(name string) *domain.Domain
	queue   chan changes.Change
}

var _ changes.Watcher = (*Kicker)(nil)

// StartKicker starts a Kicker, which ends with the context of e. current returns the domain that answers
// for a name.
func StartKicker(e env.Env, current func(name string) *domain.Domain) *Kicker {
	k := &Kicker{env: e, current: current, queue: make(chan changes.Change, maxKicks)}
	e.System.Go(k.run)
	return k
}

// Changed implements changes.Watcher.
func (k *Kicker) Changed(c changes.Change) {
	if d := k.current(c.ID.Domain); c.ID.User == "" || d == nil || d.Roster == nil || d.Roster.Kicker == nil {
		return
	}
	select {
	case k.queue <- c:
	default:
		k.env.Log.Error("too many sessions to end; these stay", "user", c.ID.User, "domain", c.ID.Domain)
	}
}

func (k *Kicker) run() {
	for {
		select {
		case c := <-k.queue:
			k.kick(k.env.Context, c)
		case <-k.env.Context.Done():
			return
		}
	}
}

func (k *Kicker) kick(ctx context.Context, c changes.Change) {
	d := k.current(c.ID.Domain)
	if d == nil || !d.Acquire() {
		return // replaced a moment ago
	}
	defer d.Release()
	if d.Roster == nil || d.Roster.Kicker == nil {
		return
	}
	if _, err := d.Roster.Kicker.Do(ctx, roster.Step{Command: roster.Kick, User: d.XMPPUser(c.ID.User), Host: c.ID.Domain}); err != nil {
		k.env.Log.Error("sessions could not be ended", "user", c.ID.User, "domain", c.ID.Domain, "err", err)
	}
}
