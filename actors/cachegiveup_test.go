package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"postern/internal/auth"
)

// TestCacheAdministrationGivesUp: what a shard tells after its administrator has left disturbs
// nobody. (The race detector watches.)
func TestCacheAdministrationGivesUp(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, func(s *setup) { onDisk(s, disk) })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	id := auth.Identity{User: "joe", Domain: "dom.example"}
	d := r.table.Load().domains[id.Domain]
	ref := d.shardOf(r.userHash(id))
	box := r.sys.boxes()[fmt.Sprintf("%s/cache%d", d.path, slices.Index(d.shards, ref))]
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for name, do := range map[string]func() error{
		"CachedUser":   func() error { _, err := r.CachedUser(over, id); return err },
		"ForgetUser":   func() error { return r.ForgetUser(over, id) },
		"ForgetDomain": func() error { return r.ForgetDomain(over, id.Domain) },
	} {
		for range 10 { // now and then the answer is there when the end is looked at
			in, let := make(chan struct{}), make(chan struct{})
			go func() { _ = ref.in(context.Background(), func(*shard) { close(in); <-let }) }()
			<-in
			idle := box.queued.Load()
			left := make(chan error, 1)
			go func() { left <- do() }()
			eventually(t, "the question", func() bool { return box.queued.Load() > idle })
			close(let) // while the other leaves, not after it
			if err := <-left; err != nil && !errors.Is(err, ErrBusy) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
