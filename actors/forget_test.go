package actors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/store"
)

// slowDelete is a store that deletes many records only when it is released, while slow is set.
type slowDelete struct {
	store.Store
	slow    atomic.Bool
	deletes atomic.Int64
	reached chan struct{}
	free    chan struct{}
	release func() // once
}

func newSlowDelete(s store.Store) *slowDelete {
	d := &slowDelete{Store: s, reached: make(chan struct{}, 1024), free: make(chan struct{})}
	d.release = sync.OnceFunc(func() { d.slow.Store(false); close(d.free) })
	return d
}

func (d *slowDelete) DeletePrefix(prefix []byte) error {
	d.deletes.Add(1)
	if d.slow.Load() {
		d.reached <- struct{}{}
		<-d.free
	}
	return d.Store.DeletePrefix(prefix)
}

// TestForgetBesideLogins: while the disk deletes the records of many users, an idle domain is used again,
// others are registered, and no forgotten user is remembered from a record.
func TestForgetBesideLogins(t *testing.T) {
	const first, second, idle = "d0.example", "d1.example", "idle.example"
	for name, c := range map[string]struct {
		forget func(*rig) error
		live   auth.Source // of the answer to a known user of the second domain
		idle   auth.Source // likewise of the idle one
	}{
		"all":      {func(r *rig) error { return r.Flush(context.Background()) }, fromBackend, fromBackend},
		"a domain": {func(r *rig) error { return r.ForgetDomain(context.Background(), first) }, hot, auth.SourceCache},
	} {
		t.Run(name, func(t *testing.T) {
			names := []string{idle}
			for i := range 50 {
				names = append(names, fmt.Sprintf("d%d.example", i))
			}
			var disk *slowDelete
			r, _, _ := newRegisteredRig(t, func(s *setup) {
				s.cfg.Registry.Cache.Storage = config.StorageDisk
				disk = newSlowDelete(s.store)
				s.store = disk
			}, names...)
			t.Cleanup(disk.release) // before the rig stops
			for _, user := range []string{"joe", "ann"} {
				for _, name := range names {
					r.want(r.at(name, user, "good"), allow, fromBackend)
					r.kept(name, user)
				}
			}
			r.endIdle(idle)
			r.want(r.at(second, "ann", "good"), allow, auth.SourceCache) // in use again
			disk.slow.Store(true)
			done := make(chan error, 1)
			go func() { done <- c.forget(r) }()
			<-disk.reached
			r.want(r.at(idle, "joe", "good"), allow, c.idle)
			r.want(r.at(first, "joe", "good"), allow, fromBackend)
			answeredWithin(t, 4*time.Second, "a change", func() { r.register(registration("new.example", "good")) })
			r.want(r.at("new.example", "joe", "good"), allow, fromBackend)
			disk.release()
			if err := <-done; err != nil || disk.deletes.Load() != 1 {
				t.Errorf("deleted %d times, %v", disk.deletes.Load(), err)
			}
			for domain, source := range map[string]auth.Source{first: fromBackend, second: c.live, idle: c.idle} {
				r.want(r.at(domain, "ann", "good"), allow, source)
			}
			r.want(r.at(first, "joe", "good"), allow, hot) // learned meanwhile
			r.want(r.at(idle, "joe", "good"), allow, hot)
		})
	}
}

// TestFlushOfAStuckDisk: a flush is not done while the disk still writes what was known before.
func TestFlushOfAStuckDisk(t *testing.T) {
	r, disk := newStuckRig(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := r.Flush(ctx); !errors.Is(err, supervise.ErrBusy) {
		t.Errorf("Flush beside a disk that writes: %v", err)
	}
	disk.release()
	if err := r.Flush(context.Background()); err != nil {
		t.Error(err)
	}
	counted(t, disk, 0)
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
}
