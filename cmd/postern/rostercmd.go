package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/control"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/roster"
)

func newRoster(a *app) *cobra.Command {
	planned, shown := &output{app: a}, &output{app: a, programs: true}
	refreshed, forgotten := &output{app: a}, &output{app: a}
	return group(
		&cobra.Command{
			Use:   "roster",
			Short: "Look into the shared rosters, or rebuild them",
			Long: `Works through the running daemon's control socket, and directly on the data directory
when no daemon runs.`,
			Example: `  postern roster plan alice@example.org
  postern roster refresh example.org`,
		},
		planned.with(a.command("postern roster", "plan DOMAIN|USER@DOMAIN", "Show what would change in the XMPP server, without changing it", "plan example.org\nplan alice@example.org", cobra.ExactArgs(1), planned.rosterPlan), control.RosterPlan{}),
		shown.with(a.command("postern roster", "show USER@DOMAIN", "Show what the XMPP server was sent about a user", "show alice@example.org\nshow alice@example.org --json", cobra.ExactArgs(1), shown.roster), control.RosterUser{}),
		refreshed.with(a.command("postern roster", "refresh [USER@DOMAIN|DOMAIN]", "Forget what is known, and rebuild it", "refresh\nrefresh example.org", cobra.MaximumNArgs(1), refreshed.rosterRefresh), control.RosterCount{}),
		forgotten.with(a.command("postern roster", "forget-group GROUP@DOMAIN", "Take all members out of a group, and forget it", "forget-group Team@example.org\nforget-group Friends@example.org", cobra.ExactArgs(1), forgotten.rosterForgetGroup), forgottenGroup{}),
	)
}

func (o *output) rosterPlan(ctx context.Context, cfg *config.Config, args []string) error {
	id, err := parseScope(args[0])
	if err != nil {
		return err
	}
	plan, err := admin.PlanRoster(ctx, cfg, id)
	return o.print(plan, err, func(w io.Writer) error { return writePlan(w, plan) })
}

func (o *output) roster(ctx context.Context, cfg *config.Config, args []string) error {
	id, err := parseAddress(args[0])
	if err != nil {
		return err
	}
	user, err := admin.ShowRoster(ctx, cfg, id)
	return o.print(user, err, func(w io.Writer) error { return writeRoster(w, user) })
}

func (o *output) rosterRefresh(ctx context.Context, cfg *config.Config, args []string) (err error) {
	var id auth.Identity
	if len(args) > 0 {
		if id, err = parseScope(args[0]); err != nil {
			return err
		}
	}
	done, err := admin.RefreshRosters(ctx, cfg, id)
	return o.print(done, err, func(w io.Writer) (err error) {
		switch {
		case done.Count == 0:
			_, err = fmt.Fprintln(w, "nothing to forget: the XMPP server was sent nothing about these users; their logins will do that")
		case done.Later:
			_, err = fmt.Fprintf(w, "forgotten for %d users; no daemon is running, so their logins will rebuild it\n", done.Count)
		default:
			_, err = fmt.Fprintf(w, "forgotten; being rebuilt for %d users\n", done.Count)
		}
		return err
	})
}

// forgottenGroup is what became of a group.
type forgottenGroup struct {
	Group    string `json:"group"`    // GROUP@DOMAIN
	Commands int    `json:"commands"` // to the XMPP server; one alone: the group had no members
}

func (o *output) rosterForgetGroup(ctx context.Context, cfg *config.Config, args []string) error {
	i := strings.LastIndexByte(args[0], '@')
	name, ok := roster.CleanGroup(args[0][:max(i, 0)])
	domain, err := auth.FoldDomain(args[0][i+1:])
	if i < 0 || !ok || err != nil {
		return fmt.Errorf("%q is no group: write GROUP@DOMAIN", args[0])
	}
	commands, err := admin.ForgetGroup(ctx, cfg, name, domain)
	group := name + "@" + domain
	return o.print(forgottenGroup{group, commands}, err, func(w io.Writer) (err error) {
		if commands <= 1 { // the question for its members
			_, err = fmt.Fprintf(w, "nothing to remove: %s has no members at the XMPP server\n", group)
			return err
		}
		_, err = fmt.Fprintf(w, "forgotten: %s, in %d commands\n", group, commands)
		return err
	})
}
