package actors

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// TestReloadSingleUse: no reload makes a used token good again.
func TestReloadSingleUse(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageNone, config.StorageMemory, config.StorageDisk} {
		for name, steps := range map[string][]func(*config.Config){
			"rules":      {quicker},
			"backend":    {otherBackend},
			"tokens off": {func(c *config.Config) { c.Domains[0].TOTP = nil }, nil},
			"removed":    {nowhere, ownBlock},
			"beside":     {beside},
			"fallback":   {onlyOthers},
		} {
			t.Run(string(storage)+"/"+name, func(t *testing.T) {
				disk := openStore(t)
				r := newRig(t, func(s *setup) {
					withTokens(s)
					onDisk(s, disk)
					s.cfg.Domains[0].Cache.Storage = storage
				})
				first := r.cfg
				text := r.totpToken("joe")
				r.want(r.auth("joe", text), allow, auth.SourceToken)
				for _, change := range steps {
					if change == nil {
						change = func(c *config.Config) { *c = *first }
					}
					r.reload(change)
				}
				r.want(r.auth("joe", text), deny, auth.SourceToken)
			})
		}
	}
}

// TestReloadAndRefusal: a password that the backend refuses after a reload, for a question that
// was put before, is never accepted again, whichever block answers for the user by then.
func TestReloadAndRefusal(t *testing.T) {
	cases := map[string]struct {
		first, change func(*config.Config)
		back          func(*config.Config) // after the refusal
	}{
		"rules":             {ownBlock, quicker, nil},
		"backend":           {ownBlock, otherBackend, nil},
		"own block":         {onlyOthers, beside, nil},
		"to the fallback":   {ownBlock, onlyOthers, nil},
		"own block instead": {onlyOthers, ownBlock, nil},
		"removed":           {ownBlock, nowhere, ownBlock},
	}
	for name, c := range cases {
		for _, hashOnly := range []bool{false, true} { // the verifier is known by its hash only
			t.Run(fmt.Sprint(name, " ", hashOnly), func(t *testing.T) {
				g, held := newScriptedBackend("good"), newBarrier()
				disk := openStore(t)
				build := func(ask func(context.Context, backend.Query) backend.Result) *rig {
					return newRig(t, func(s *setup) { onDisk(s, disk); c.first(s.cfg); s.fake.ask = ask })
				}
				r := build(g.ask)
				r.want(r.auth("joe", "good"), allow, fromBackend)
				eventually(t, "the hash on disk", func() bool { u := onDiskOf(t, disk, "joe"); return u != nil && len(u.Verifiers) == 1 })
				if hashOnly {
					r.stop()
				}
				if hashOnly {
					r = build(g.ask)
				}
				r.clock.advance(2 * time.Hour)
				g.change("new")
				r.fake.ask = func(ctx context.Context, q backend.Query) backend.Result { held.ask(ctx, q); return g.ask(ctx, q) }
				before := r.start("joe", "good")
				held.reached(t, 1)
				r.reload(c.change)
				if c.back == nil {
					r.cached("joe") // the new owner has the user in memory
				}
				held.open()
				r.want(<-before, deny, fromBackend)
				if c.back != nil {
					r.reload(c.back)
				}
				g.always(backend.Outage)
				if a := r.auth("joe", "good"); a.Verdict == auth.Allow {
					t.Errorf("the refused password was answered %v (%v)", a.Verdict, a.Source)
				}
				if u := onDiskOf(t, disk, "joe"); u != nil && len(u.Verifiers) > 0 {
					eventually(t, "the end of the verifier on disk", func() bool {
						u := onDiskOf(t, disk, "joe")
						return u == nil || len(u.Verifiers) == 0
					})
				}
			})
		}
	}
}

// TestReloadAndAcceptance: what was asked under another configuration is answered, and not
// remembered.
func TestReloadAndAcceptance(t *testing.T) {
	held := newBarrier()
	r := newRig(t, func(s *setup) { s.fake.ask = held.ask })
	login, exists := r.start("joe", "good"), r.startRequest(isUser("ann"), 10*time.Second)
	held.reached(t, 2)
	r.reload(otherBackend)
	held.open()
	r.want(<-login, allow, fromBackend)
	r.want(<-exists, allow, fromBackend)
	if joe, ann := r.cached("joe"), r.cached("ann"); len(joe.Verifiers) > 0 || ann.Exists.Known {
		t.Errorf("remembered %+v, %+v", joe, ann)
	}
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.want(r.auth("joe", "good"), allow, hot)
}

// TestReloadStorage: a cache that was away from disk for a while has not seen what was refused
// meanwhile, so nothing of before is believed.
func TestReloadStorage(t *testing.T) {
	to := func(s config.Storage) func(*config.Config) {
		return func(c *config.Config) { c.Domains[0].Cache.Storage = s }
	}
	toFallback := func(s config.Storage) func(*config.Config) {
		return func(c *config.Config) { c.Domains[0].Name, c.Domains[0].Cache.Storage = "*", s }
	}
	for name, c := range map[string][2]func(*config.Config){
		"none":           {to(config.StorageNone), to(config.StorageDisk)},
		"memory":         {to(config.StorageMemory), to(config.StorageDisk)},
		"none, fallback": {toFallback(config.StorageNone), to(config.StorageDisk)},
		"moved, none":    {toFallback(config.StorageNone), func(c *config.Config) { ownBlock(c); to(config.StorageDisk)(c) }},
		"moved, memory":  {toFallback(config.StorageMemory), func(c *config.Config) { ownBlock(c); to(config.StorageDisk)(c) }},
	} {
		t.Run(name, func(t *testing.T) {
			g := newScriptedBackend("good")
			r := g.rig(t, config.StorageDisk)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r.hashed("joe", 1)
			r.reload(c[0])
			g.change("new")
			r.clock.advance(2 * time.Hour)
			r.want(r.auth("joe", "good"), deny, fromBackend)
			if name == "memory" {
				// As if joe had been evicted from memory.
				if err := r.shards.Drop(context.Background(), "dom.example", func(auth.Identity) bool { return true }); err != nil {
					t.Fatal(err)
				}
			}
			r.reload(c[1])
			g.always(backend.Outage)
			if a := r.auth("joe", "good"); a.Verdict == auth.Allow {
				t.Errorf("the refused password was answered %v (%v)", a.Verdict, a.Source)
			}
		})
	}
}
