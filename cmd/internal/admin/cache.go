package admin

import (
	"context"
	"errors"
	"time"

	"postern/actors/changes"
	"postern/cmd/internal/control"
	"postern/cmd/internal/daemon"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
)

// CachedUser describes what the cache has of an account.
func CachedUser(ctx context.Context, cfg *config.Config, id auth.Identity) (control.CachedUser, error) {
	shown := control.DescribeUser(id, new(cache.User))
	err := onStore(ctx, cfg, "/v1/cache/show", control.For(id), &shown, func(p store.Disk) error {
		user := new(cache.User)
		record, err := p.Get(cache.RecordKey(id))
		if err == nil {
			user, err = cache.Decode(record)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		shown = control.DescribeUser(id, user)
		return nil
	})
	return shown, err
}

// CacheStats counts what the cache has, in memory and on disk.
func CacheStats(ctx context.Context, cfg *config.Config) (control.CacheStats, error) {
	stats := control.CacheStats{Disk: map[string]int{}}
	err := onStore(ctx, cfg, "/v1/cache/stats", control.Request{}, &stats, func(p store.Disk) (err error) {
		stats.DiskBytes = p.Size()
		stats.Disk, err = control.CountRecords(p)
		return err
	})
	return stats, err
}

// ForgetCached removes an account from the cache, a whole domain if id has no user, or everything
// if it is zero, and returns what was removed.
func ForgetCached(ctx context.Context, cfg *config.Config, id auth.Identity) (control.Forgotten, error) {
	return forgetCached(ctx, cfg, id, "")
}

// forgetCached is ForgetCached. op is control.Removed or control.Added for an account that was removed from its
// backend, or made there.
func forgetCached(ctx context.Context, cfg *config.Config, id auth.Identity, op string) (n control.Forgotten, err error) {
	request, change := control.For(id), changes.Op(id, changes.Secret, time.Now())
	if request.Op = op; op == control.Removed {
		change = changes.Op(id, changes.Removed, time.Now())
	}
	path := "/v1/cache/forget"
	if id == (auth.Identity{}) {
		path = "/v1/cache/flush"
	}
	err = onStore(ctx, cfg, path, request, &n, func(p store.Disk) (err error) {
		if err := p.Apply([]store.Op{change}, true); err != nil {
			return err
		}
		if n, err = daemon.ForgetRecords(p, id); op != "" {
			err = errors.Join(err, dropPasswords(p, cfg, id))
		}
		return err
	})
	return n, err
}

// Forget removes all that is remembered of an account, or of a whole domain if id has no user.
func Forget(ctx context.Context, cfg *config.Config, id auth.Identity) (n control.Forgotten, err error) {
	err = onStore(ctx, cfg, "/v1/forget", control.For(id), &n, func(p store.Disk) (err error) {
		if err := p.Apply([]store.Op{changes.Op(id, changes.Secret, time.Now())}, true); err != nil {
			return err
		}
		n, err = daemon.ForgetStored(p, id)
		return err
	})
	return n, err
}
