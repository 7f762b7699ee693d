package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/actors"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/roster"
	"postern/internal/store"
)

func newRoster(a *app) *cobra.Command {
	command := func(use, short string, args cobra.PositionalArgs, do func(context.Context, *config.Config, []string) error) *cobra.Command {
		word, _, _ := strings.Cut(use, " ")
		return &cobra.Command{
			Use: use, Short: short, Args: args,
			Example: "  postern roster " + map[string]string{
				"plan": "plan example.org", "show": "show alice@example.org", "refresh": "refresh example.org",
				"forget-group": "forget-group Team@example.org",
			}[word],
			RunE: func(cmd *cobra.Command, args []string) error {
				cfg, err := a.load(nil)
				if err != nil {
					return err
				}
				return do(cmd.Context(), cfg, args)
			},
		}
	}
	return group(
		&cobra.Command{
			Use:   "roster",
			Short: "Look into the shared rosters, or rebuild them",
			Long: `Works through the running daemon's control socket, and directly on the data directory
when no daemon runs.`,
			Example: `  postern roster plan alice@example.org
  postern roster refresh example.org`,
		},
		command("plan DOMAIN|USER@DOMAIN", "Show what the XMPP server would be told, without telling it", cobra.ExactArgs(1), a.rosterPlan),
		command("show USER@DOMAIN", "Show what the XMPP server was told of a user", cobra.ExactArgs(1), a.rosterShow),
		command("refresh [USER@DOMAIN|DOMAIN]", "Forget what is known, and rebuild it", cobra.MaximumNArgs(1), a.rosterRefresh),
		command("forget-group GROUP@DOMAIN", "Take all members out of a group, and forget it", cobra.ExactArgs(1), a.rosterForgetGroup),
	)
}

// parseScope reads USER@DOMAIN or DOMAIN.
func parseScope(text string) (id auth.Identity, err error) {
	if strings.Contains(text, "@") {
		return parseAddress(text)
	}
	if id.Domain, err = auth.FoldDomain(text); err != nil {
		return id, fmt.Errorf("%q is not a domain: write USER@DOMAIN or DOMAIN: %w", text, err)
	}
	return id, nil
}

// rosterPlanReply is what `postern roster plan` shows.
type rosterPlanReply struct {
	Steps   []string `json:"steps"`
	Users   int      `json:"users"`
	Unasked []string `json:"unasked,omitempty"`
}

// planRoster puts a plan into words.
func planRoster(ctx context.Context, b *actors.Broker, domain, user string) (reply rosterPlanReply, err error) {
	plan, err := b.PlanRoster(ctx, domain, user)
	for _, s := range plan.Steps {
		words := s.Args()
		for i, word := range words {
			if i > 0 && (word == "" || strings.ContainsAny(word, " \t\"'\\$")) {
				words[i] = fmt.Sprintf("%q", word)
			}
		}
		reply.Steps = append(reply.Steps, strings.Join(words, " "))
	}
	for _, id := range plan.Unasked {
		reply.Unasked = append(reply.Unasked, id.String())
	}
	reply.Users = plan.Users
	return reply, err
}

func (a *app) rosterPlan(ctx context.Context, cfg *config.Config, args []string) error {
	id, err := parseScope(args[0])
	if err != nil {
		return err
	}
	var reply rosterPlanReply
	err = withBroker(ctx, cfg, "/v1/roster/plan", controlRequest{User: id.User, Domain: id.Domain}, &reply, func(ctx context.Context, b *actors.Broker) (err error) {
		reply, err = planRoster(ctx, b, id.Domain, id.User)
		if errors.Is(context.Cause(ctx), errStarted) { // which left users out
			err = errStarted
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, step := range reply.Steps {
		fmt.Fprintln(a.out, step)
	}
	fmt.Fprintf(a.out, "# %d commands for %d users\n", len(reply.Steps), reply.Users)
	if len(reply.Unasked) > 0 {
		fmt.Fprintf(a.out, "# not told by the backend: %s\n", strings.Join(reply.Unasked, ", "))
	}
	return nil
}

// rosterUser is what is known of a user's shared roster.
type rosterUser struct {
	User     string         `json:"user"`
	FullName *string        `json:"full_name"`
	Groups   map[string]int `json:"groups"`          // and their sizes
	Own      []string       `json:"groups_at_login"` // that the user's own answers gave
	Complete bool           `json:"last_answer_carried_out"`
	Doubtful []string       `json:"groups_being_changed,omitempty"`
}

// describeRoster reads what is known of a user.
func describeRoster(s store.Store, id auth.Identity) (shown rosterUser, err error) {
	id = roster.Login(id)
	shown = rosterUser{User: id.String(), Groups: map[string]int{}, Own: []string{}}
	users, groups, err := roster.State{Store: s, Domain: id.Domain}.All()
	if u, ok := users[id.String()]; ok {
		if u.Named {
			shown.FullName = &u.Name
		}
		shown.Own = append(shown.Own, u.Groups...)
		shown.Complete = u.Hash != roster.Hash{}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if g := groups[name]; slices.Contains(g.Members, id.String()) {
			shown.Groups[name] = len(g.Members)
			if g.Dirty {
				shown.Doubtful = append(shown.Doubtful, name)
			}
		}
	}
	return shown, err
}

func (a *app) rosterShow(ctx context.Context, cfg *config.Config, args []string) error {
	id, err := parseAddress(args[0])
	if err != nil {
		return err
	}
	shown := rosterUser{User: roster.Login(id).String(), Groups: map[string]int{}, Own: []string{}}
	err = either(ctx, cfg, "/v1/roster/show", controlRequest{User: id.User, Domain: id.Domain}, &shown, func(p *store.Pebble) (err error) {
		shown, err = describeRoster(p, id)
		return err
	})
	if err != nil {
		return err
	}
	return a.print(shown)
}

// rosterCount is the answer to a command that does something.
type rosterCount struct {
	Count int `json:"count"`
}

func (a *app) rosterRefresh(ctx context.Context, cfg *config.Config, args []string) (err error) {
	var id auth.Identity
	if len(args) > 0 {
		if id, err = parseScope(args[0]); err != nil {
			return err
		}
	}
	reply := rosterCount{Count: -1}
	err = either(ctx, cfg, "/v1/roster/refresh", controlRequest{User: id.User, Domain: id.Domain}, &reply, func(p *store.Pebble) error {
		return forgetRosters(p, cfg, id)
	})
	if err != nil {
		return err
	}
	if reply.Count < 0 {
		_, err = fmt.Fprintln(a.out, "forgotten: no daemon is running, so logins will rebuild it")
		return err
	}
	_, err = fmt.Fprintf(a.out, "forgotten; being rebuilt for %d users\n", reply.Count)
	return err
}

// forgetRosters forgets on disk what is known of a user, of a domain, or of all.
func forgetRosters(p *store.Pebble, cfg *config.Config, id auth.Identity) error {
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
		ops, err := roster.State{Store: p, Domain: domain}.Forget(only)
		if err == nil {
			err = p.Apply(ops, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) rosterForgetGroup(ctx context.Context, cfg *config.Config, args []string) error {
	i := strings.LastIndexByte(args[0], '@')
	name, ok := roster.CleanGroup(args[0][:max(i, 0)])
	domain, err := auth.FoldDomain(args[0][i+1:])
	if i < 0 || !ok || err != nil {
		return fmt.Errorf("%q is no group: write GROUP@DOMAIN", args[0])
	}
	var reply rosterCount
	err = withBroker(ctx, cfg, "/v1/roster/forget-group", controlRequest{Group: name, Domain: domain}, &reply, func(ctx context.Context, b *actors.Broker) (err error) {
		reply.Count, err = b.ForgetGroup(ctx, name, domain)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "forgotten: %s@%s, in %d commands\n", name, domain, reply.Count)
	return err
}
