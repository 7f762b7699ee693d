package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/internal/auth"
	"postern/internal/config"
)

func newCache(a *app) *cobra.Command {
	command := func(use, short string, args int, do func(context.Context, *config.Config, []string) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.ExactArgs(args),
			Example: "  postern cache " + strings.NewReplacer("|DOMAIN", "", "USER@DOMAIN", "alice@example.org").Replace(use),
			RunE:    a.withConfig(do),
		}
	}
	return group(
		&cobra.Command{
			Use:   "cache",
			Short: "Look into the cache, or make it forget",
			Long: `Works through the running daemon's control socket, and directly on the data directory
when no daemon runs.

A stale password is checked with the backend at its next use, because another password was
accepted after it. A suspect one was refused by one backend while another was not reachable; it
is not accepted during an outage either.`,
			Example: `  postern cache show alice@example.org
  postern cache forget example.org`,
		},
		command("show USER@DOMAIN", "Show what is remembered of a user", 1, func(ctx context.Context, cfg *config.Config, args []string) error {
			id, err := parseAddress(args[0])
			if err != nil {
				return err
			}
			return a.printJSON(admin.CachedUser(ctx, cfg, id))
		}),
		command("stats", "Count what is remembered, and what the cache did", 0, func(ctx context.Context, cfg *config.Config, _ []string) error {
			return a.printJSON(admin.CacheStats(ctx, cfg))
		}),
		command("forget USER@DOMAIN|DOMAIN", "Forget a user, or all users of a domain", 1, func(ctx context.Context, cfg *config.Config, args []string) error {
			id, err := parseScope(args[0])
			if err != nil {
				return err
			}
			return a.printForgotten(args[0], admin.ForgetCached(ctx, cfg, id))
		}),
		command("flush", "Forget all users", 0, func(ctx context.Context, cfg *config.Config, _ []string) error {
			return a.printForgotten("everybody", admin.ForgetCached(ctx, cfg, auth.Identity{}))
		}),
	)
}
