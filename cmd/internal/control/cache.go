package control

import (
	"context"
	"errors"
	"time"

	"postern/actors/memory"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// CacheStats is the answer to /v1/cache/stats.
type CacheStats struct {
	Running     bool                    `json:"daemon_running"`
	Memory      map[string]memory.Stats `json:"memory,omitempty"` // by domain
	Disk        map[string]int          `json:"disk_users"`       // by domain
	DiskBytes   uint64                  `json:"disk_bytes"`
	StoreFailed string                  `json:"store_failed,omitempty"`
}

// CountRecords counts the accounts in a store by domain.
func CountRecords(p store.Store) (map[string]int, error) {
	n := map[string]int{}
	err := p.Scan([]byte(store.Credentials), func(key, _ []byte) bool {
		if id, ok := cache.RecordIdentity(key); ok {
			n[id.Domain]++
		}
		return true
	})
	return n, err
}

func (s *Server) cacheStats(ctx context.Context, _ Request) (any, error) {
	shards, err := s.daemon.Broker().CacheStats(ctx)
	if err != nil {
		return nil, err
	}
	reply := CacheStats{Running: true, Memory: shards, StoreFailed: s.daemon.StoreFailed(), Disk: map[string]int{}}
	if disk := s.daemon.Store(); disk != nil && reply.StoreFailed == "" {
		reply.DiskBytes = disk.Size()
		reply.Disk, err = CountRecords(disk)
	}
	if errors.Is(err, store.ErrFailed) { // CountRecords found it broken
		reply.StoreFailed, err = s.daemon.StoreFailed(), nil
	}
	return reply, err
}

// CachedUser is the answer to /v1/cache/show: an account's cache entry without hashes and keys.
type CachedUser struct {
	User      string           `json:"user"`
	Verifiers []CachedVerifier `json:"verifiers"`
	Refused   int              `json:"refused_passwords_remembered"`
	Exists    string           `json:"exists"` // yes, no, unknown
	ExistsAt  *time.Time       `json:"exists_asked,omitempty"`
}

// CachedVerifier describes one accepted password.
type CachedVerifier struct {
	First    time.Time `json:"first_verified"`
	Verified time.Time `json:"last_verified"`
	Used     time.Time `json:"last_used"`
	Stale    bool      `json:"stale"`
	Suspect  bool      `json:"suspect"`
	OnDisk   bool      `json:"on_disk"`
	InMemory bool      `json:"in_memory"`
}

// DescribeUser describes an account's cache entry.
func DescribeUser(id auth.Identity, u *cache.User) CachedUser {
	d := CachedUser{User: id.String(), Refused: len(u.Refusals), Exists: "unknown", Verifiers: []CachedVerifier{}}
	for _, v := range u.Verifiers {
		d.Verifiers = append(d.Verifiers, CachedVerifier{
			First: v.First.Go().UTC(), Verified: v.Verified.Go().UTC(), Used: v.Used.Go().UTC(), Stale: v.Stale, Suspect: v.Suspect,
			OnDisk: v.Hash != "", InMemory: v.Key != (cache.Key{}),
		})
	}
	if u.Exists.Known {
		at := u.Exists.At.Go().UTC()
		d.ExistsAt, d.Exists = &at, "no"
		if u.Exists.Yes {
			d.Exists = "yes"
		}
	}
	return d
}

func (s *Server) cacheShow(ctx context.Context, r Request) (any, error) {
	id, err := r.account()
	if err != nil {
		return nil, err
	}
	user, err := s.daemon.Broker().CachedUser(ctx, id)
	if err != nil {
		return nil, err
	}
	return DescribeUser(id, &user), nil
}

// cacheForget answers with what there was to forget.
func (s *Server) cacheForget(ctx context.Context, r Request) (any, error) {
	id, err := r.scope()
	if err != nil {
		return nil, err
	}
	replaced := (r.Op == Removed || r.Op == Added) && id.User != ""
	if replaced && r.Op == Removed {
		s.daemon.Broker().NoteRemoved(id)
	}
	n, err := s.daemon.ForgetCached(ctx, id)
	if replaced {
		err = errors.Join(err, s.daemon.Broker().DropAppPasswords(ctx, id))
	}
	return n, err
}
