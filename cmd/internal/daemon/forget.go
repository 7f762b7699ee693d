package daemon

import (
	"context"
	"errors"

	"postern/actors/router"
	"postern/cmd/internal/control"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/roster"
	"postern/internal/store"
)

// ForgetStored removes what a store holds of an account, or of a whole domain if id has no user,
// and counts it. The store must not be used by a broker, unless the broker has forgotten id.
func ForgetStored(s store.Store, id auth.Identity) (n control.Forgotten, err error) {
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
	records, err := ForgetRecords(s, id)
	n.Users, n.Passwords, n.Refusals, n.Exists = records.Users, records.Passwords, records.Refusals, records.Exists
	return n, err
}

// ForgetRecords removes the cache records of an account, of a whole domain if id has no user, or of all
// if it is zero, and counts them. The store must not be used by a broker, unless the broker has
// forgotten id.
func ForgetRecords(s store.Store, id auth.Identity) (n control.Forgotten, err error) {
	if id.User == "" {
		prefix := prefixOf(id.Domain)
		return n, errors.Join(countUsers(s, prefix, &n), s.DeletePrefix(prefix))
	}
	key := cache.RecordKey(id)
	record, err := s.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return n, nil
	}
	if err == nil {
		countUser(record, &n)
		err = s.Apply([]store.Op{{Key: key}}, true)
	}
	return n, err
}

// prefixOf is the prefix of the cache records of a domain, or of all if it is empty.
func prefixOf(domain string) []byte {
	if domain == "" {
		return []byte(store.Credentials)
	}
	return cache.RecordPrefix(domain)
}

// countUsers counts records.
func countUsers(s store.Store, prefix []byte, n *control.Forgotten) error {
	return s.Scan(prefix, func(_, record []byte) bool {
		countUser(record, n)
		return true
	})
}

func countUser(record []byte, n *control.Forgotten) {
	if user, err := cache.Decode(record); err == nil {
		add(n, user)
	}
}

// add counts an account's record.
func add(n *control.Forgotten, u *cache.User) {
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

// Forget removes all that is remembered of an account, or of a whole domain if id has no user, in
// memory and on disk. What is on disk of a domain that is not configured any more is removed, too.
func (d *Daemon) Forget(ctx context.Context, id auth.Identity) (n control.Forgotten, err error) {
	if id.User != "" {
		n, err = d.forgetUser(ctx, id)
	} else {
		n, err = d.forgetDomain(ctx, id.Domain)
	}
	if err != nil && !errors.Is(err, router.ErrUnknownDomain) {
		return n, err
	}
	disk := d.Store()
	if disk == nil {
		return n, nil
	}
	err = d.broker.QuietRosters(ctx, func() error {
		left, err := ForgetStored(disk, id)
		if left.Counted = n.Counted; n.Users == 0 {
			n = left
		}
		n.Tokens, n.Roster = left.Tokens, left.Roster
		return err
	})
	return n, err
}

// forgetUser forgets an account of a configured domain.
func (d *Daemon) forgetUser(ctx context.Context, id auth.Identity) (n control.Forgotten, err error) {
	n, err = d.ForgetCached(ctx, id)
	if err != nil {
		return n, err
	}
	limited, err := d.broker.ForgetUserLimit(ctx, id)
	n.Counted = limited.Refusals
	return n, err
}

// forgetDomain forgets the accounts of a configured domain.
func (d *Daemon) forgetDomain(ctx context.Context, name string) (control.Forgotten, error) {
	return d.ForgetCached(ctx, auth.Identity{Domain: name})
}

// ForgetCached removes an account from the cache, a whole domain if id has no user, or all accounts if
// it is zero. Of these it counts those on disk, or those in memory if there are more.
func (d *Daemon) ForgetCached(ctx context.Context, id auth.Identity) (n control.Forgotten, err error) {
	if id.User != "" {
		user, err := d.broker.CachedUser(ctx, id)
		if err != nil {
			return n, err
		}
		if len(user.Verifiers)+len(user.Refusals) > 0 || user.Exists.Known || user.Alias != (cache.Alias{}) {
			add(&n, &user)
		}
		return n, d.broker.ForgetUser(ctx, id)
	}
	if disk := d.Store(); disk != nil {
		if err := countUsers(disk, prefixOf(id.Domain), &n); err != nil {
			return n, err
		}
	}
	shards, err := d.broker.CacheStats(ctx)
	if err != nil {
		return n, err
	}
	held := shards[id.Domain].Users
	if id.Domain == "" {
		for _, s := range shards {
			held += s.Users
		}
		n.Users = max(n.Users, held)
		return n, d.broker.Flush(ctx)
	}
	n.Users = max(n.Users, held)
	return n, d.broker.ForgetDomain(ctx, id.Domain)
}
