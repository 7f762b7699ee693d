package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"postern/internal/auth"
	"postern/internal/roster"
)

// ErrNoRoster is wrapped when a domain has no shared rosters.
var ErrNoRoster = errors.New("the domain has no roster block")

// rosterOf returns the shared rosters of a domain.
func (b *Broker) rosterOf(name string) (*rosterRef, error) {
	d := b.lookup(name)
	switch {
	case d == nil:
		return nil, fmt.Errorf("%s: %w", name, ErrUnknownDomain)
	case d.params.Load().roster == nil:
		return nil, fmt.Errorf("%s: %w", name, ErrNoRoster)
	}
	return d.roster, nil
}

// RosterPlan is what a run would do.
type RosterPlan struct {
	Steps   []roster.Step
	Users   int             // who were asked about
	Unasked []auth.Identity // of whom the backend told nothing
}

// PlanRoster lists what a run for the users of a domain whose rosters are known, or for one
// user, would do. Nothing is changed.
func (b *Broker) PlanRoster(ctx context.Context, domain, user string) (plan RosterPlan, err error) {
	r, err := b.rosterOf(domain)
	if err != nil {
		return plan, err
	}
	t, err := r.take(ctx)
	if err != nil {
		return plan, err
	}
	defer t.release()
	state := t.state(domain)
	batch := []auth.Identity{roster.Login(auth.Identity{User: user, Domain: domain})}
	if user == "" {
		if batch, err = state.Logins(); err != nil {
			return plan, err
		}
	}
	wanted, failed, asked, err := t.gather(ctx, state, batch, true)
	if err != nil {
		return plan, err
	}
	unasked := slices.Concat(failed, batch[asked:])
	p, err := roster.NewPlan(wanted)
	if err != nil {
		return plan, err
	}
	return RosterPlan{Steps: roster.Preview(ctx, p, t.server), Users: len(batch) - len(unasked), Unasked: unasked}, nil
}

// RefreshRoster forgets what is known of a domain, or of one user there, and rebuilds it. It
// returns the number of users whose rosters are asked for from now on, in as many runs as it
// takes.
func (b *Broker) RefreshRoster(ctx context.Context, domain, user string) (users int, err error) {
	r, err := b.rosterOf(domain)
	if err != nil {
		return 0, err
	}
	t, err := r.take(ctx)
	if err != nil {
		return 0, err
	}
	defer t.release()
	state := t.state(domain)
	var only *auth.Identity
	batch, err := state.Logins()
	if user != "" {
		id := roster.Login(auth.Identity{User: user, Domain: domain})
		only, batch = &id, []auth.Identity{id}
	}
	if err != nil {
		return 0, err
	}
	ops, err := state.Forget(only)
	if err != nil {
		return 0, err
	}
	if err := t.disk.Apply(ops, true); err != nil {
		return 0, err
	}
	r.send(&rosterNote{ref: r, ids: batch, urgent: true})
	return len(batch), nil
}

// RefreshRosters does the same for every domain with shared rosters that has a name.
func (b *Broker) RefreshRosters(ctx context.Context) (users int, err error) {
	var errs []error
	for name, d := range b.table.Load().domains {
		if d.params.Load().roster != nil && name != "*" {
			n, err := b.RefreshRoster(ctx, name, "")
			users += n
			errs = append(errs, err)
		}
	}
	return users, errors.Join(errs...)
}

// ForgetGroup takes every member out of a group at the XMPP server and forgets it. If the
// backend still has it, the next logins of its members bring it back. It is not broken off
// when ctx ends, only not waited for.
func (b *Broker) ForgetGroup(ctx context.Context, group, domain string) (steps int, err error) {
	r, err := b.rosterOf(domain)
	if err != nil {
		return 0, err
	}
	t, err := r.take(ctx)
	if err != nil {
		return 0, err
	}
	type outcome struct {
		steps int
		err   error
	}
	done := make(chan outcome, 1)
	b.sys.pool.Schedule(func() {
		defer t.release()
		var o outcome
		var plan *roster.Plan
		if plan, o.err = roster.NewRemoval(t.state(domain), group); o.err == nil {
			o.steps, o.err = t.server.Apply(b.ctx, plan)
		}
		r.log.Info("shared roster: a group was taken from the XMPP server", "domain", domain, "group", group, "steps", o.steps, "err", o.err)
		done <- o
	})
	select {
	case o := <-done:
		return o.steps, o.err
	case <-ctx.Done():
		return 0, errors.New("the group has many members: its removal goes on, and the log will tell of its end")
	}
}

// QuietRosters runs do while no domain tells its XMPP server anything, so that no run under way
// brings back what do removes.
func (b *Broker) QuietRosters(ctx context.Context, do func() error) error {
	domains := b.table.Load().domains
	for _, name := range slices.Sorted(maps.Keys(domains)) { // in one order, whoever asks
		if domains[name].params.Load().roster == nil {
			continue
		}
		t, err := domains[name].roster.take(ctx)
		if errors.Is(err, ErrNoRoster) || errors.Is(err, errNoStore) {
			continue
		}
		if err != nil {
			return err
		}
		defer t.release()
	}
	return do()
}
