package main

import (
	"context"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/internal/auth"
	"postern/internal/config"
)

func newCache(a *app) *cobra.Command {
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
		a.command("postern cache", "show USER@DOMAIN", "Show what is remembered of a user", "show alice@example.org", cobra.ExactArgs(1), func(ctx context.Context, cfg *config.Config, args []string) error {
			id, err := parseAddress(args[0])
			if err != nil {
				return err
			}
			return a.printJSON(admin.CachedUser(ctx, cfg, id))
		}),
		a.command("postern cache", "stats", "Count what is remembered, and what the cache did", "stats", cobra.ExactArgs(0), func(ctx context.Context, cfg *config.Config, _ []string) error {
			return a.printJSON(admin.CacheStats(ctx, cfg))
		}),
		a.command("postern cache", "forget USER@DOMAIN|DOMAIN", "Forget a user, or all users of a domain", "forget alice@example.org", cobra.ExactArgs(1), func(ctx context.Context, cfg *config.Config, args []string) error {
			id, err := parseScope(args[0])
			if err != nil {
				return err
			}
			n, err := admin.ForgetCached(ctx, cfg, id)
			return a.printForgotten(args[0], n, err)
		}),
		a.command("postern cache", "flush", "Forget all users", "flush", cobra.ExactArgs(0), func(ctx context.Context, cfg *config.Config, _ []string) error {
			n, err := admin.ForgetCached(ctx, cfg, auth.Identity{})
			return a.printForgotten("all users", n, err)
		}),
	)
}
