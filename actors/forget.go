package actors

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// Many users are forgotten by all shards at once, in memory, and then in one step on disk, for
// which nobody waits but who asked for it. Until then their records are hidden, so that no shard
// reads again what it has forgotten. What a shard writes after its turn is new: where that is
// deleted with the rest, a backend is asked once more.

// ForgetDomain removes the users of a domain from the cache.
func (b *Broker) ForgetDomain(ctx context.Context, name string) error {
	if !b.serves(name) {
		return fmt.Errorf("%s: %w", name, ErrUnknownDomain)
	}
	return b.forget(ctx, &forgetting{
		of:     func(d *domain) bool { return d.name == name || d.name == "*" },
		match:  func(id auth.Identity) bool { return id.Domain == name },
		prefix: cache.RecordPrefix(name),
	})
}

// Flush empties the cache of every domain.
func (b *Broker) Flush(ctx context.Context) error {
	return b.forget(ctx, &forgetting{
		of:     func(*domain) bool { return true },
		match:  func(auth.Identity) bool { return true },
		prefix: []byte(store.Credentials),
	})
}

// forgetting says who is to be forgotten.
type forgetting struct {
	of     func(*domain) bool // whose memory may hold them
	match  func(auth.Identity) bool
	prefix []byte // of their records
}

// forget carries out a forgetting. When it fails a part of the shards may have forgotten already.
func (b *Broker) forget(ctx context.Context, f *forgetting) error {
	b.hidden.add(f)
	defer b.hidden.remove(f)
	for _, t := range b.turns(f) {
		if err := b.had(ctx, t); err != nil {
			return err
		}
	}
	if disk := b.disk.Load(); disk != nil {
		return disk.DeletePrefix(f.prefix)
	}
	return nil
}

// turn is a shard's turn to forget.
type turn struct {
	*shardRef
	end <-chan struct{} // closed when the shard has had it, or will not any more
	had bool
}

// turns gives one to each shard that may remember somebody, also of domains that are on their way
// out. The lock makes sure that no users are between two shards: who is handed over later is
// forgotten before. Domains that start later find the records hidden, or gone.
func (b *Broker) turns(f *forgetting) (list []*turn) {
	b.shape.RLock()
	defer b.shape.RUnlock()
	domains, _, _ := b.parts()
	for _, d := range domains {
		if !f.of(d) {
			continue
		}
		for _, ref := range d.shards {
			t := &turn{shardRef: ref}
			t.end = ref.order(func(s *shard) {
				s.epoch++ // a login now at the backend is not to be remembered
				s.users.drop(f.match)
				t.had = true
			})
			list = append(list, t)
		}
	}
	return list
}

// had waits until a shard has had its turn, or has stopped: it writes what it knows until then.
func (b *Broker) had(ctx context.Context, t *turn) error {
	if err := b.until(ctx, t.end); err != nil || t.had {
		return err
	}
	return b.until(ctx, t.gone)
}

// until waits for a part of the cache.
func (b *Broker) until(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	case <-b.ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, errStopping)
	}
}

// hidden are the users whose records are not read, since they are being forgotten.
type hidden struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*forgetting] // nil while there are none
}

func (h *hidden) add(f *forgetting) {
	h.change(func(list []*forgetting) []*forgetting { return append(list, f) })
}

func (h *hidden) remove(f *forgetting) {
	h.change(func(list []*forgetting) []*forgetting {
		return slices.DeleteFunc(list, func(g *forgetting) bool { return g == f })
	})
}

func (h *hidden) change(do func([]*forgetting) []*forgetting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []*forgetting
	if now := h.list.Load(); now != nil {
		list = slices.Clone(*now)
	}
	if list = do(list); len(list) == 0 {
		h.list.Store(nil)
		return
	}
	h.list.Store(&list)
}

func (h *hidden) has(id auth.Identity) bool {
	list := h.list.Load()
	return list != nil && slices.ContainsFunc(*list, func(f *forgetting) bool { return f.match(id) })
}
