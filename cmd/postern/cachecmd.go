package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"postern/actors"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
)

// cacheStats is what `postern cache stats` prints.
type cacheStats struct {
	Running     bool                         `json:"daemon_running"`
	Memory      map[string]actors.ShardStats `json:"memory,omitempty"` // by domain
	Disk        map[string]int               `json:"disk_users"`       // by domain
	DiskBytes   uint64                       `json:"disk_bytes"`
	StoreFailed string                       `json:"store_failed,omitempty"`
}

func newCache(a *app) *cobra.Command {
	return group(
		&cobra.Command{
			Use:   "cache",
			Short: "Look into the cache, or make it forget",
			Long: `Works through the running daemon's control socket, and directly on the data directory
when no daemon runs.

A password that is shown as stale is asked about at its next use, since another one was new after
it; a suspect one, which one backend has refused while another could not tell, serves nobody
during an outage either.`,
			Example: `  postern cache show alice@example.org
  postern cache forget example.org`,
		},
		a.cacheCommand("show USER@DOMAIN", "Show what is remembered of a user", 1, a.cacheShow),
		a.cacheCommand("stats", "Count what is remembered, and what the cache did", 0, a.cacheStats),
		a.cacheCommand("forget USER@DOMAIN|DOMAIN", "Forget a user, or all users of a domain", 1, a.cacheForget),
		a.cacheCommand("flush", "Forget everybody", 0, a.cacheFlush),
	)
}

func (a *app) cacheCommand(use, short string, args int, do func(context.Context, *config.Config, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(args),
		Example: "  postern cache " + strings.NewReplacer("|DOMAIN", "", "USER@DOMAIN", "alice@example.org").Replace(use),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(nil)
			if err != nil {
				return err
			}
			return do(cmd.Context(), cfg, args)
		},
	}
}

// either asks the daemon, or does it on the store when no daemon runs.
func either(ctx context.Context, cfg *config.Config, path string, req controlRequest, reply any, direct func(*store.Pebble) error) error {
	err := callControl(ctx, controlPath(cfg), path, req, reply)
	if !errors.Is(err, errNoDaemon) {
		return err
	}
	if _, err := os.Stat(storeDir(cfg)); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever remembered
	}
	return withStore(ctx, cfg, path, req, reply, direct)
}

func (a *app) print(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (a *app) cacheShow(ctx context.Context, cfg *config.Config, args []string) error {
	id, err := parseAddress(args[0])
	if err != nil {
		return err
	}
	shown := describeUser(id, new(cache.User)) // what is shown when nothing was ever remembered
	err = either(ctx, cfg, "/v1/cache/show", controlRequest{User: id.User, Domain: id.Domain}, &shown, func(p *store.Pebble) error {
		user := new(cache.User)
		record, err := p.Get(cache.RecordKey(id))
		if err == nil {
			user, err = cache.Decode(record)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		shown = describeUser(id, user)
		return nil
	})
	if err != nil {
		return err
	}
	return a.print(shown)
}

func (a *app) cacheStats(ctx context.Context, cfg *config.Config, _ []string) error {
	stats := cacheStats{Disk: map[string]int{}}
	err := either(ctx, cfg, "/v1/cache/stats", controlRequest{}, &stats, func(p *store.Pebble) (err error) {
		stats.DiskBytes = p.Size()
		stats.Disk, err = countRecords(p)
		return err
	})
	if err != nil {
		return err
	}
	return a.print(stats)
}

// forgetCached makes the running daemon, or the store when none runs, forget a user; the zero
// Identity stands for everybody. Without a store there is nothing to forget.
func forgetCached(ctx context.Context, cfg *config.Config, id auth.Identity) error {
	path, req := "/v1/cache/forget", controlRequest{User: id.User, Domain: id.Domain}
	if id == (auth.Identity{}) {
		path = "/v1/cache/flush"
	}
	return either(ctx, cfg, path, req, &struct{}{}, func(p *store.Pebble) error {
		if id == (auth.Identity{}) {
			return p.DeletePrefix([]byte(store.Credentials))
		}
		return p.Apply([]store.Op{{Key: cache.RecordKey(id)}}, true)
	})
}

// countRecords counts the users on disk by domain.
func countRecords(p *store.Pebble) (map[string]int, error) {
	n := map[string]int{}
	err := p.Scan([]byte(store.Credentials), func(key, _ []byte) bool {
		if id, ok := cache.RecordIdentity(key); ok {
			n[id.Domain]++
		}
		return true
	})
	return n, err
}

func (a *app) cacheForget(ctx context.Context, cfg *config.Config, args []string) error {
	if strings.Contains(args[0], "@") {
		id, err := parseAddress(args[0])
		if err != nil {
			return err
		}
		return a.forgotten(args[0], forgetCached(ctx, cfg, id))
	}
	domain, err := auth.FoldDomain(args[0])
	if err != nil {
		return fmt.Errorf("%q is not a domain: write USER@DOMAIN or DOMAIN: %w", args[0], err)
	}
	return a.forgotten(args[0], either(ctx, cfg, "/v1/cache/forget", controlRequest{Domain: domain}, &struct{}{}, func(p *store.Pebble) error {
		return p.DeletePrefix(cache.RecordPrefix(domain))
	}))
}

func (a *app) cacheFlush(ctx context.Context, cfg *config.Config, _ []string) error {
	return a.forgotten("everybody", forgetCached(ctx, cfg, auth.Identity{}))
}

func (a *app) forgotten(whom string, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "forgotten: %s\n", whom)
	return err
}
