package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/internal/auth"
	"postern/internal/config"
)

func newCache(a *app) *cobra.Command {
	show, stats := &output{app: a, programs: true}, &output{app: a, programs: true}
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
		show.with(a.command("postern cache", "show USER@DOMAIN", "Show what is remembered of a user", "show alice@example.org\nshow alice@example.org --json", cobra.ExactArgs(1), func(ctx context.Context, cfg *config.Config, args []string) error {
			id, err := parseAddress(args[0])
			if err != nil {
				return err
			}
			user, err := admin.CachedUser(ctx, cfg, id)
			return show.print(user, err, func(w io.Writer) error { return writeCachedUser(w, user) })
		})),
		stats.with(a.command("postern cache", "stats", "Count what is remembered, and what the cache did", "stats\nstats --json", cobra.ExactArgs(0), func(ctx context.Context, cfg *config.Config, _ []string) error {
			counts, err := admin.CacheStats(ctx, cfg)
			return stats.print(counts, err, func(w io.Writer) error { return writeCacheStats(w, counts) })
		})),
		a.command("postern cache", "forget USER@DOMAIN|DOMAIN", "Forget a user, or all users of a domain", "forget alice@example.org\nforget example.org", cobra.ExactArgs(1), func(ctx context.Context, cfg *config.Config, args []string) error {
			id, err := parseScope(args[0])
			if err != nil {
				return err
			}
			n, err := admin.ForgetCached(ctx, cfg, id)
			return a.printForgotten(args[0], n, err)
		}),
		a.command("postern cache", "flush", "Forget all users", "flush\nflush --config /etc/postern/config.hcl", cobra.ExactArgs(0), func(ctx context.Context, cfg *config.Config, _ []string) error {
			n, err := admin.ForgetCached(ctx, cfg, auth.Identity{})
			return a.printForgotten(everybody, n, err)
		}),
	)
}
