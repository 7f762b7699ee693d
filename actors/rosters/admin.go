package rosters

import (
	"context"
	"errors"
	"slices"

	"postern/actors/domain"
	"postern/internal/auth"
	"postern/internal/roster"
)

// Plan is what a run would do.
type Plan struct {
	roster.Preview
	Users   int             // with an answer from the backends
	Unasked []auth.Identity // without one
}

// Plan returns what a run would do, for one user or, if user is empty, for all users of the domain
// with a known roster. It changes nothing. The error wraps ErrNone if the domain has no shared
// rosters.
func (r *Roster) Plan(ctx context.Context, domain, user string) (plan Plan, err error) {
	s, err := r.newSession(ctx)
	if err != nil {
		return plan, err
	}
	defer s.release()
	state := s.state(domain)
	batch := []auth.Identity{roster.Login(auth.Identity{User: user, Domain: domain})}
	if user == "" {
		if batch, err = state.Logins(); err != nil {
			return plan, err
		}
	}
	f, err := s.fetch(ctx, state, batch, true)
	if err != nil {
		return plan, err
	}
	unasked := slices.Concat(f.failed, batch[f.asked:])
	p, err := roster.NewPlan(f.desired)
	if err != nil {
		return plan, err
	}
	plan = Plan{Users: len(batch) - len(unasked), Unasked: unasked}
	plan.Preview, err = s.config.Server.Preview(ctx, p)
	return plan, err
}

// Refresh forgets what the XMPP server was told about a user, or, if user is empty, about all users of
// the domain with a known roster, and requests runs for them. It returns the number of these users
// and does not wait for the runs. The error wraps ErrNone if the domain has
// no shared rosters.
func (r *Roster) Refresh(ctx context.Context, name, user string) (users int, err error) {
	s, err := r.newSession(ctx)
	if err != nil {
		return 0, err
	}
	defer s.release()
	state := s.state(name)
	var only *auth.Identity
	batch, err := state.Logins()
	if user != "" {
		id := roster.Login(auth.Identity{User: user, Domain: name})
		only, batch = &id, []auth.Identity{id}
	}
	if err != nil {
		return 0, err
	}
	ops, err := state.Forget(only)
	if err != nil {
		return 0, err
	}
	if err := s.store.Apply(ops, true); err != nil {
		return 0, err
	}
	r.Ref.Send(&domain.LoginNote{IDs: batch, Urgent: true, Lost: r.logDropped})
	return len(batch), nil
}

// ForgetGroup removes every member of a group at the XMPP server and forgets the group. If the
// backend still has it, the next logins of its members bring it back. When ctx ends first, the
// removal goes on and its end is logged. The number of steps is of those carried out; the error
// wraps ErrNone if the domain has no shared rosters.
func (r *Roster) ForgetGroup(ctx context.Context, group, domain string) (steps int, err error) {
	s, err := r.newSession(ctx)
	if err != nil {
		return 0, err
	}
	type outcome struct {
		steps int
		err   error
	}
	done := make(chan outcome, 1)
	r.env.System.Go(func() {
		defer s.release()
		var o outcome
		var plan *roster.Plan
		if plan, o.err = roster.NewRemoval(s.state(domain), group); o.err == nil {
			o.steps, o.err = s.config.Server.Apply(r.env.Context, plan)
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

// Quiet calls do while no roster of the list has a session open, so that no run under way restores
// what do removes. All callers must give their lists in the same order.
func Quiet(ctx context.Context, list []*Roster, do func() error) error {
	for _, r := range list {
		s, err := r.newSession(ctx)
		if errors.Is(err, ErrNone) || errors.Is(err, errNoStore) {
			continue
		}
		if err != nil {
			return err
		}
		defer s.release()
	}
	return do()
}
