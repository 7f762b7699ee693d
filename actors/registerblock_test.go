package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
)

// TestRegisterBesideBlock: registering a name that has a block leaves the block's records on disk,
// wherever the fallback and the registered domains keep theirs.
func TestRegisterBesideBlock(t *testing.T) {
	for _, c := range []struct{ fallback, registered config.Storage }{
		{config.StorageMemory, config.StorageDisk}, {config.StorageDisk, config.StorageMemory},
	} {
		t.Run(string(c.fallback)+" and "+string(c.registered), func(t *testing.T) {
			r, _, disk := newEstate(t, func(s *setup) {
				besideFallback(s)
				blockOf("a.example")(s.cfg)
				s.cfg.Domains[1].Cache.Storage = c.fallback
				s.cfg.Domains[2].Cache.Storage = config.StorageDisk
				s.cfg.Registry.Cache.Storage = c.registered
			})
			r.want(r.at("a.example", "joe", fallbackPassword), allow, fromBackend)
			record := func() error {
				_, err := disk.Get(cache.RecordKey(auth.Identity{User: "joe", Domain: "a.example"}))
				return err
			}
			r.kept("a.example", "joe") // whose hash is the last to be written
			if err := record(); err != nil {
				t.Fatalf("joe on disk: %v", err)
			}
			r.register(tenancy("a.example", "own"))
			if err := record(); err != nil {
				t.Errorf("joe on disk: %v", err)
			}
		})
	}
}

// TestRegisterBesideHandover: what the fallback had asked before a block took a name over reaches the
// block also when the name is registered meanwhile.
func TestRegisterBesideHandover(t *testing.T) {
	held := newGate()
	var asked atomic.Int64
	r, _, _ := newEstate(t, func(s *setup) {
		blockOf("*")(s.cfg)
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			switch asked.Add(1) {
			case 1:
				return backend.Result{Class: backend.Accepted}
			case 2:
				held.ask(ctx, q)
				return backend.Result{Class: backend.Refused}
			}
			return outage(ctx, q)
		}
	})
	r.want(r.at("a.example", "joe", "good"), allow, fromBackend)
	r.clock.advance(2 * time.Hour)
	slow := r.startRequest(at("a.example", "joe", "good"), 20*time.Second)
	held.reached(t, 1)
	r.reload(blockOf("a.example"))
	r.register(tenancy("a.example", "own"))
	held.open()
	r.want(<-slow, deny, fromBackend)
	r.clock.advance(time.Hour) // the refusal itself is forgotten
	r.want(r.at("a.example", "joe", "good"), cannot, fromBackend)
}
