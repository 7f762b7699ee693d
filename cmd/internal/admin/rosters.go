package admin

import (
	"context"
	"errors"
	"slices"

	"postern/actors"
	"postern/cmd/internal/control"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/roster"
	"postern/internal/store"
)

// PlanRoster describes what would change in the XMPP server's shared rosters for an account, or
// for a whole domain if id has no user.
func PlanRoster(ctx context.Context, cfg *config.Config, id auth.Identity) (plan control.RosterPlan, err error) {
	err = withBroker(ctx, cfg, "/v1/roster/plan", control.For(id), &plan, func(ctx context.Context, b *actors.Broker) (err error) {
		plan, err = control.PlanRoster(ctx, b, id.Domain, id.User)
		if errors.Is(context.Cause(ctx), errStarted) { // the plan is without some users
			err = errStarted
		}
		return err
	})
	return plan, err
}

// ShowRoster describes what the XMPP server was sent about an account's shared roster.
func ShowRoster(ctx context.Context, cfg *config.Config, id auth.Identity) (control.RosterUser, error) {
	shown, err := control.DescribeRoster(nil, id)
	if err == nil {
		err = onStore(ctx, cfg, "/v1/roster/show", control.For(id), &shown, func(p store.Disk) (err error) {
			shown, err = control.DescribeRoster(p, id)
			return err
		})
	}
	return shown, err
}

// RefreshRosters forgets what the XMPP server was sent about an account, about a whole domain if
// id has no user, or about all domains if id is zero. A daemon synchronises their users again; without
// one, what was known of them is forgotten, and later logins synchronise them.
func RefreshRosters(ctx context.Context, cfg *config.Config, id auth.Identity) (reply control.RosterCount, err error) {
	err = onStore(ctx, cfg, "/v1/roster/refresh", control.For(id), &reply, func(p store.Disk) (err error) {
		reply.Later = true
		reply.Count, err = forgetRosters(p, cfg, id)
		return err
	})
	return reply, err
}

// forgetRosters returns the number of users that were known.
func forgetRosters(p store.Disk, cfg *config.Config, id auth.Identity) (users int, err error) {
	domains := []string{id.Domain}
	if id.Domain == "" {
		domains = nil
		for _, d := range cfg.Domains {
			domains = append(domains, d.Name)
		}
	}
	var only *auth.Identity
	if id.User != "" {
		login := roster.Login(id)
		only = &login
	}
	for _, domain := range domains {
		state := roster.State{Store: p, Domain: domain}
		known, err := state.Logins()
		if err != nil {
			return users, err
		}
		ops, err := state.Forget(only)
		if err == nil {
			err = p.Apply(ops, true)
		}
		if err != nil {
			return users, err
		}
		if only == nil {
			users += len(known)
		} else if slices.Contains(known, *only) {
			users++
		}
	}
	return users, nil
}

// ForgetGroup removes all members from a group of the XMPP server and forgets it. It returns the
// number of commands that this took.
func ForgetGroup(ctx context.Context, cfg *config.Config, group, domain string) (commands int, err error) {
	var reply control.RosterCount
	err = withBroker(ctx, cfg, "/v1/roster/forget-group", control.Request{Group: group, Domain: domain}, &reply, func(ctx context.Context, b *actors.Broker) (err error) {
		reply.Count, err = b.ForgetGroup(ctx, group, domain)
		return err
	})
	return reply.Count, err
}
