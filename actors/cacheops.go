package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// ErrUnknownDomain is wrapped when no configured domain answers for a name.
var ErrUnknownDomain = errors.New("no such domain is configured")

// ErrBusy is returned when a part of the cache does not answer in time.
var ErrBusy = errors.New("the cache is busy: try again")

// cacheOp runs a function in a shard, where the users' state may be touched.
type cacheOp struct {
	do   func(*shard)
	done chan error
}

var _ request = (*cacheOp)(nil)

func (o *cacheOp) run(s *shard) {
	o.do(s)
	o.done <- nil
}

// Fail implements request.
func (o *cacheOp) Fail(why auth.Source) {
	select {
	case o.done <- fmt.Errorf("%w (%s)", ErrBusy, why):
	default:
	}
}

// in runs do in a shard and waits for it.
func (s *shardRef) in(ctx context.Context, do func(*shard)) error {
	op := &cacheOp{do: do, done: make(chan error, 1)}
	s.send(op)
	select {
	case err := <-op.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

// fetch runs do in a shard and returns what it tells. It goes through a channel: a shard may have
// its turn when nobody waits any more.
func fetch[T any](ctx context.Context, s *shardRef, do func(*shard) T) (told T, err error) {
	answer := make(chan T, 1)
	if err := s.in(ctx, func(s *shard) { answer <- do(s) }); err != nil {
		return told, err
	}
	return <-answer, nil
}

// change runs do, which may fail, in a shard and waits for it.
func (s *shardRef) change(ctx context.Context, do func(*shard) error) error {
	failed, err := fetch(ctx, s, do)
	return errors.Join(err, failed)
}

// look returns the domain that answers for a name, with its actors started if it is a tenant
// without, and keeps everything in its place until done is called.
func (b *Broker) look(ctx context.Context, name string) (d *domain, done func(), err error) {
	if err := b.awaken(ctx, name); err != nil {
		return nil, nil, err
	}
	b.shape.RLock()
	d, t := b.find(name)
	switch {
	case d != nil:
		return d, b.shape.RUnlock, nil
	case t != nil: // it fell asleep again
		err = ErrBusy
	default:
		err = fmt.Errorf("%s: %w", name, ErrUnknownDomain)
	}
	b.shape.RUnlock()
	return nil, nil, err
}

// CachedUser returns a copy of what the cache holds of a user.
func (b *Broker) CachedUser(ctx context.Context, id auth.Identity) (cache.User, error) {
	d, done, err := b.look(ctx, id.Domain)
	if err != nil {
		return cache.User{}, err
	}
	defer done()
	return fetch(ctx, d.shardOf(b.userHash(id)), func(s *shard) cache.User { return s.users.get(id).Clone() })
}

// ForgetUser removes a user from the cache, in memory and on disk.
func (b *Broker) ForgetUser(ctx context.Context, id auth.Identity) error {
	d, done, err := b.look(ctx, id.Domain)
	if err != nil {
		return err
	}
	defer done()
	return d.shardOf(b.userHash(id)).change(ctx, func(s *shard) error {
		s.epoch++ // a login now at the backend is not to be remembered
		user := s.users.get(id)
		user.Forget()
		s.users.place(id, user)
		if disk := b.disk.Load(); disk != nil {
			return disk.Apply([]store.Op{{Key: cache.RecordKey(id)}}, true)
		}
		return nil
	})
}

// CacheStats sums what the shards of each domain count.
func (b *Broker) CacheStats(ctx context.Context) (map[string]ShardStats, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b.shape.RLock()
	defer b.shape.RUnlock()
	return shardStats(ctx, b.serving())
}

// shardStats sums what the shards of each domain tell before ctx ends.
func shardStats(ctx context.Context, domains map[string]*domain) (map[string]ShardStats, error) {
	all := make(map[string]ShardStats, len(domains))
	var errs []error
	for name, d := range domains {
		var sum ShardStats
		for _, ref := range d.shards {
			told, err := fetch(ctx, ref, (*shard).stats)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			sum.add(told)
		}
		all[name] = sum
	}
	return all, errors.Join(errs...)
}
