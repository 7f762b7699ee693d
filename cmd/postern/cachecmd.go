package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/control"
	"postern/internal/auth"
	"postern/internal/config"
)

func newCache(a *app) *cobra.Command {
	show, stats := &output{app: a, programs: true}, &output{app: a, programs: true}
	forgotten, flushed := &output{app: a}, &output{app: a}
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
		}), control.CachedUser{}),
		stats.with(a.command("postern cache", "stats", "Count what is remembered, and what the cache did", "stats\nstats --json", cobra.ExactArgs(0), func(ctx context.Context, cfg *config.Config, _ []string) error {
			counts, err := admin.CacheStats(ctx, cfg)
			return stats.print(counts, err, func(w io.Writer) error { return writeCacheStats(w, counts) })
		}), control.CacheStats{}),
		forgotten.with(a.command("postern cache", "forget USER@DOMAIN|DOMAIN", "Forget a user, or all users of a domain", "forget alice@example.org\nforget example.org", cobra.ExactArgs(1), func(ctx context.Context, cfg *config.Config, args []string) error {
			id, err := parseScope(args[0])
			if err != nil {
				return err
			}
			n, err := admin.ForgetCached(ctx, cfg, id)
			return forgotten.forgotten(args[0], n, err)
		}), forgottenReport{}),
		flushed.with(a.command("postern cache", "flush", "Forget all users", "flush\nflush --config /etc/postern/config.hcl", cobra.ExactArgs(0), func(ctx context.Context, cfg *config.Config, _ []string) error {
			n, err := admin.ForgetCached(ctx, cfg, auth.Identity{})
			return flushed.forgotten(everybody, n, err)
		}), forgottenReport{}),
	)
}

// everybody is what `postern cache flush` forgets.
const everybody = "all users"

// forgottenReport is what a command has made postern forget of a user, a domain, or all users.
type forgottenReport struct {
	Name string `json:"name"`
	control.Forgotten
}

// forgotten prints what a command has removed from the cache, unless err says that it has not.
func (o *output) forgotten(what string, n control.Forgotten, err error) error {
	return o.print(forgottenReport{what, n}, err, func(w io.Writer) (err error) {
		switch {
		case n.Nothing() && what == everybody:
			_, err = fmt.Fprintln(w, "nothing to forget: the cache is empty")
		case n.Nothing():
			_, err = fmt.Fprintf(w, "nothing to forget: the cache has nothing of %s\n", what)
		default:
			_, err = fmt.Fprintf(w, "forgotten: %s, records: %d, accepted passwords: %d, refused passwords: %d\n", what, n.Users, n.Passwords, n.Refusals)
		}
		return err
	})
}
