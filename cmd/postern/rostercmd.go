package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/roster"
)

func newRoster(a *app) *cobra.Command {
	return group(
		&cobra.Command{
			Use:   "roster",
			Short: "Look into the shared rosters, or rebuild them",
			Long: `Works through the running daemon's control socket, and directly on the data directory
when no daemon runs.`,
			Example: `  postern roster plan alice@example.org
  postern roster refresh example.org`,
		},
		a.command("postern roster", "plan DOMAIN|USER@DOMAIN", "Show which commands the XMPP server would get, without sending them", "plan example.org", cobra.ExactArgs(1), a.rosterPlan),
		a.command("postern roster", "show USER@DOMAIN", "Show what the XMPP server was sent about a user", "show alice@example.org", cobra.ExactArgs(1), a.rosterShow),
		a.command("postern roster", "refresh [USER@DOMAIN|DOMAIN]", "Forget what is known, and rebuild it", "refresh example.org", cobra.MaximumNArgs(1), a.rosterRefresh),
		a.command("postern roster", "forget-group GROUP@DOMAIN", "Take all members out of a group, and forget it", "forget-group Team@example.org", cobra.ExactArgs(1), a.rosterForgetGroup),
	)
}

func (a *app) rosterPlan(ctx context.Context, cfg *config.Config, args []string) error {
	id, err := parseScope(args[0])
	if err != nil {
		return err
	}
	plan, err := admin.PlanRoster(ctx, cfg, id)
	if err != nil {
		return err
	}
	for _, step := range plan.Steps {
		fmt.Fprintln(a.Out, step)
	}
	fmt.Fprintf(a.Out, "# %d commands for %d users\n", len(plan.Steps), plan.Users)
	if len(plan.Unasked) > 0 {
		fmt.Fprintf(a.Out, "# no answer from the backend about: %s\n", strings.Join(plan.Unasked, ", "))
	}
	return nil
}

func (a *app) rosterShow(ctx context.Context, cfg *config.Config, args []string) error {
	id, err := parseAddress(args[0])
	if err != nil {
		return err
	}
	return a.printJSON(admin.ShowRoster(ctx, cfg, id))
}

func (a *app) rosterRefresh(ctx context.Context, cfg *config.Config, args []string) (err error) {
	var id auth.Identity
	if len(args) > 0 {
		if id, err = parseScope(args[0]); err != nil {
			return err
		}
	}
	users, err := admin.RefreshRosters(ctx, cfg, id)
	if err != nil {
		return err
	}
	if users < 0 {
		_, err = fmt.Fprintln(a.Out, "forgotten: no daemon is running, so logins will rebuild it")
		return err
	}
	_, err = fmt.Fprintf(a.Out, "forgotten; being rebuilt for %d users\n", users)
	return err
}

func (a *app) rosterForgetGroup(ctx context.Context, cfg *config.Config, args []string) error {
	i := strings.LastIndexByte(args[0], '@')
	name, ok := roster.CleanGroup(args[0][:max(i, 0)])
	domain, err := auth.FoldDomain(args[0][i+1:])
	if i < 0 || !ok || err != nil {
		return fmt.Errorf("%q is no group: write GROUP@DOMAIN", args[0])
	}
	commands, err := admin.ForgetGroup(ctx, cfg, name, domain)
	if err != nil {
		return err
	}
	if commands <= 1 { // the question for its members
		_, err = fmt.Fprintf(a.Out, "nothing to remove: %s@%s has no members at the XMPP server\n", name, domain)
		return err
	}
	_, err = fmt.Fprintf(a.Out, "forgotten: %s@%s, in %d commands\n", name, domain, commands)
	return err
}
