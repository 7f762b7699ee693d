package rosters

import (
	"context"
	"errors"
	"slices"

	"postern/internal/auth"
	"postern/internal/roster"
)

// Plan is what a run would do.
type Plan struct {
	Steps   []roster.Step
	Users   int             // that were asked about
	Unasked []auth.Identity // of whom the backend said nothing
}

// Plan lists what a run for the users of a domain whose rosters are known, or for one user, would
// do. Nothing is changed.
func (r *Roster) Plan(ctx context.Context, domain, user string) (plan Plan, err error) {
	t, err := r.begin(ctx)
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
	desired, failed, asked, err := t.gather(ctx, state, batch, true)
	if err != nil {
		return plan, err
	}
	unasked := slices.Concat(failed, batch[asked:])
	p, err := roster.NewPlan(desired)
	if err != nil {
		return plan, err
	}
	return Plan{Steps: roster.Preview(ctx, p, t.rules.Server), Users: len(batch) - len(unasked), Unasked: unasked}, nil
}

// Refresh forgets what is known of a domain, or of one user there, and rebuilds it. It returns the
// number of users whose rosters are asked for from now on, in as many runs as it takes.
func (r *Roster) Refresh(ctx context.Context, domain, user string) (users int, err error) {
	t, err := r.begin(ctx)
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
	if err := t.store.Apply(ops, true); err != nil {
		return 0, err
	}
	r.request(batch)
	return len(batch), nil
}

// ForgetGroup takes every member out of a group at the XMPP server and forgets it. If the
// backend still has it, the next logins of its members bring it back. It is not broken off
// when ctx ends, only not waited for.
func (r *Roster) ForgetGroup(ctx context.Context, group, domain string) (steps int, err error) {
	t, err := r.begin(ctx)
	if err != nil {
		return 0, err
	}
	type outcome struct {
		steps int
		err   error
	}
	done := make(chan outcome, 1)
	r.env.System.Go(func() {
		defer t.release()
		var o outcome
		var plan *roster.Plan
		if plan, o.err = roster.NewRemoval(t.state(domain), group); o.err == nil {
			o.steps, o.err = t.rules.Server.Apply(r.env.Context, plan)
		}
		r.env.Log.Info("shared roster: a group was taken from the XMPP server", "domain", domain, "group", group, "steps", o.steps, "err", o.err)
		done <- o
	})
	select {
	case o := <-done:
		return o.steps, o.err
	case <-ctx.Done():
		return 0, errors.New("the group has many members: its removal goes on, and its end will be logged")
	}
}

// Quiet runs do while none of the rosters talks to its XMPP server, so that no run under way brings
// back what do removes. The list must be in the same order for all callers.
func Quiet(ctx context.Context, list []*Roster, do func() error) error {
	for _, r := range list {
		t, err := r.begin(ctx)
		if errors.Is(err, ErrNone) || errors.Is(err, errNoStore) {
			continue
		}
		if err != nil {
			return err
		}
		defer t.release()
	}
	return do()
}
