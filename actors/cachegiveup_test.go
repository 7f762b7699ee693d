package actors

import (
	"context"
	"errors"
	"testing"

	"postern/actors/supervise"
	"postern/internal/auth"
)

// TestCacheAdministrationGivesUp: what a shard answers after the caller has given up does no harm.
// (The race detector watches.)
func TestCacheAdministrationGivesUp(t *testing.T) {
	disk, f := openStore(t), new(faults)
	r := newRig(t, func(s *setup) { onDisk(s, disk); s.inject = f.inject })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	id := auth.Identity{User: "joe", Domain: "dom.example"}
	ref := r.shards.Ref(r.shards.Hash(id))
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for name, do := range map[string]func() error{
		"CachedUser":   func() error { _, err := r.CachedUser(over, id); return err },
		"ForgetUser":   func() error { return r.ForgetUser(over, id) },
		"ForgetDomain": func() error { return r.ForgetDomain(over, id.Domain) },
	} {
		for range 10 { // sometimes the answer is there before the context is looked at
			release := r.stuck(f, ref.Name())
			idle := ref.Queued()
			left := make(chan error, 1)
			go func() { left <- do() }()
			eventually(t, "the question", func() bool { return ref.Queued() > idle })
			release() // while the caller gives up, not after that
			if err := <-left; err != nil && !errors.Is(err, supervise.ErrBusy) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
