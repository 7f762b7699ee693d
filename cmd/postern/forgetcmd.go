package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"postern/actors"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/roster"
	"postern/internal/store"
)

// forgotten is what was removed, by kind.
type forgotten struct {
	Users     int  `json:"users"`     // records in the cache
	Passwords int  `json:"passwords"` // that were accepted
	Refusals  int  `json:"refusals"`  // passwords that were refused
	Exists    bool `json:"exists"`    // whether the user exists
	Tokens    int  `json:"tokens"`    // used single-use tokens, which are kept
	Counted   int  `json:"counted"`   // refusals that the limits have counted

	Roster roster.Erased `json:"roster"`
}

func newForget(a *app) *cobra.Command {
	var whole bool
	cmd := &cobra.Command{
		Use:   "forget USER@DOMAIN | --domain DOMAIN",
		Short: "Remove all that is remembered of a user, or of a domain",
		Long: `Removes what postern remembers by itself of a user: accepted and refused passwords, whether
the user exists, roster state and limits; and tells what was removed. It works through the
running daemon's control socket, and directly on the data directory when no daemon runs.

Accounts are not removed: not those at a backend, and not those in a users file (see
` + "`postern user remove`" + `). Used single-use tokens are kept until they end, within 90 seconds, or
they could be used again; they do not say whose they are. The limits of a whole domain's users, which
are in memory only, are left to run out. Log files are not touched.`,
		Example: `  postern forget alice@example.org
  postern forget --domain example.org`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.forget(cmd.Context(), args[0], whole)
		},
	}
	cmd.Flags().BoolVar(&whole, "domain", false, "the argument is a domain: forget all of its users")
	return cmd
}

func (a *app) forget(ctx context.Context, whom string, whole bool) error {
	var id auth.Identity
	var err error
	if whole {
		if id.Domain, err = auth.FoldDomain(whom); err != nil {
			return fmt.Errorf("%q is not a domain: %w", whom, err)
		}
	} else if id, err = parseAddress(whom); err != nil {
		return err
	}
	cfg, err := a.load(nil)
	if err != nil {
		return err
	}
	n, err := forgetAll(ctx, cfg, id)
	if err != nil {
		return err
	}
	return n.report(a.out, id)
}

// forgetAll forgets a user, or a whole domain when the user is empty.
func forgetAll(ctx context.Context, cfg *config.Config, id auth.Identity) (n forgotten, err error) {
	err = either(ctx, cfg, "/v1/forget", controlRequest{User: id.User, Domain: id.Domain}, &n, func(p *store.Pebble) (err error) {
		n, err = forgetStored(p, id)
		return err
	})
	return n, err
}

// forgetStored removes what a store holds, and counts it.
func forgetStored(s store.Store, id auth.Identity) (n forgotten, err error) {
	if n.Tokens, err = countKeys(s, []byte(store.Nonces)); err != nil {
		return n, err
	}
	ops, erased, err := roster.Erase(s, id)
	if err == nil && len(ops) > 0 {
		err = s.Apply(ops, true)
	}
	if n.Roster = erased; err != nil {
		return n, err
	}
	count := func(_, value []byte) bool {
		if user, err := cache.Decode(value); err == nil {
			n.add(user)
		}
		return true
	}
	if id.User == "" {
		prefix := cache.RecordPrefix(id.Domain)
		return n, errors.Join(s.Scan(prefix, count), s.DeletePrefix(prefix))
	}
	key := cache.RecordKey(id)
	record, err := s.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return n, nil
	}
	if err == nil {
		count(key, record)
		err = s.Apply([]store.Op{{Key: key}}, true)
	}
	return n, err
}

// add counts a user's record.
func (n *forgotten) add(u *cache.User) {
	n.Users++
	n.Passwords += len(u.Verifiers)
	n.Refusals += len(u.Refusals)
	n.Exists = n.Exists || u.Exists.Known
}

func countKeys(s store.Store, prefix []byte) (n int, err error) {
	err = s.Scan(prefix, func([]byte, []byte) bool {
		n++
		return true
	})
	return n, err
}

// report tells what was removed.
func (n *forgotten) report(out io.Writer, id auth.Identity) error {
	whom := "of " + id.Domain
	if id.User != "" {
		whom = id.String()
	}
	exists := "nothing"
	if n.Exists {
		exists = "removed"
	}
	_, err := fmt.Fprintf(out, `forgotten: %s
  cache: %d records with %d accepted and %d refused passwords
  existence: %s
  limits: %d refusals
  shared rosters: %d users, and %d groups that name them
  single-use tokens: %d kept for their last seconds; they name nobody
`, whom, n.Users, n.Passwords, n.Refusals, exists, n.Counted, n.Roster.Users, n.Roster.Groups, n.Tokens)
	return err
}

// forgetHandler adds /v1/forget to the control server.
func (c *controlServer) forgetHandler(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/forget", handle(func(ctx context.Context, r controlRequest) (any, error) {
		if r.User == "" {
			domain, err := auth.FoldDomain(r.Domain)
			if err != nil {
				return nil, err
			}
			return c.daemon.forget(ctx, auth.Identity{Domain: domain})
		}
		id, err := auth.NewIdentity(r.User, r.Domain)
		if err != nil {
			return nil, err
		}
		return c.daemon.forget(ctx, id)
	}))
}

// forget forgets in memory and on disk. What is on disk of a domain that is not configured any
// more is removed, too.
func (d *daemon) forget(ctx context.Context, id auth.Identity) (n forgotten, err error) {
	if id.User != "" {
		n, err = d.forgetUser(ctx, id)
	} else {
		n, err = d.forgetDomain(ctx, id.Domain)
	}
	if err != nil && !errors.Is(err, actors.ErrUnknownDomain) {
		return n, err
	}
	disk := d.store.Load()
	if disk == nil {
		return n, nil
	}
	return n, d.broker.QuietRosters(ctx, func() error {
		left, err := forgetStored(disk, id)
		if left.Counted = n.Counted; n.Users == 0 {
			n = left
		}
		n.Tokens, n.Roster = left.Tokens, left.Roster
		return err
	})
}

// forgetUser forgets a user of a configured domain.
func (d *daemon) forgetUser(ctx context.Context, id auth.Identity) (n forgotten, err error) {
	user, err := d.broker.CachedUser(ctx, id)
	if err != nil {
		return n, err
	}
	if len(user.Verifiers)+len(user.Refusals) > 0 || user.Exists.Known {
		n.add(&user)
	}
	limited, err := d.broker.UserLimit(ctx, id)
	n.Counted = limited.Refusals
	return n, errors.Join(err, d.broker.ForgetUserLimit(ctx, id), d.broker.ForgetUser(ctx, id))
}

// forgetDomain forgets the users of a configured domain. Those on disk are counted, or those in
// memory where there are more.
func (d *daemon) forgetDomain(ctx context.Context, name string) (n forgotten, err error) {
	if disk := d.store.Load(); disk != nil {
		err = disk.Scan(cache.RecordPrefix(name), func(_, value []byte) bool {
			if user, err := cache.Decode(value); err == nil {
				n.add(user)
			}
			return true
		})
		if err != nil {
			return n, err
		}
	}
	shards, err := d.broker.CacheStats(ctx)
	if err != nil {
		return n, err
	}
	n.Users = max(n.Users, shards[name].Users)
	return n, d.broker.ForgetDomain(ctx, name)
}
