package actors

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"postern/actors/memory"
	"postern/actors/router"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// TestChangesReachTheCache: what a setpass or removeuser means for the passwords in memory.
func TestChangesReachTheCache(t *testing.T) {
	cases := []struct {
		class backend.Class
		again auth.Source // of the old password, right after it
		down  auth.Answer // in an outage
	}{
		{backend.Accepted, fromBackend, auth.Answer{Verdict: unavailable, Source: fromBackend}},
		{backend.Refused, hot, auth.Answer{Verdict: allow, Source: hot}},
		{backend.Unsupported, hot, auth.Answer{Verdict: allow, Source: hot}},
		{backend.Outage, fromBackend, auth.Answer{Verdict: allow, Source: grace}}, // it may have been made
	}
	for _, op := range []auth.Operation{auth.OpSetPass, auth.OpRemoveUser} {
		for _, c := range cases {
			for _, down := range []bool{false, true} {
				t.Run(fmt.Sprint(op, "/", c.class, "/", down), func(t *testing.T) {
					g := newScriptedBackend("good")
					r := g.rig(t, config.StorageDisk)
					r.want(r.auth("joe", "good"), allow, fromBackend)
					r.want(r.auth("joe", "bad"), deny, fromBackend)
					r.hashed("joe", 1)
					g.always(c.class)
					r.ask(auth.Request{Op: op, User: "joe", Domain: "dom.example", Secret: auth.NewSecret("new")})
					g.works()
					want := auth.Answer{Verdict: allow, Source: c.again}
					if down {
						g.always(backend.Outage)
						want = c.down
					}
					r.want(r.auth("joe", "good"), want.Verdict, want.Source)
					r.written()
					if u := onDiskOf(t, r.env.Disk().Store(), "joe"); down && (u == nil) != (c.class == backend.Accepted) {
						t.Errorf("on disk is %+v", u)
					}
				})
			}
		}
	}
}

// counted waits until the store holds so many records of users.
func counted(t *testing.T, s store.Store, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d records on disk", want), func() bool {
		n := 0
		if err := s.Scan([]byte(store.Credentials), func(_, _ []byte) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n == want
	})
}

// TestCacheAdministration forgets a user, a domain and everything.
func TestCacheAdministration(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, func(s *setup) {
		onDisk(s, disk)
		all := s.cfg.Domains[0]
		all.Name = "*"
		s.cfg.Domains = append(s.cfg.Domains, all)
	})
	ctx := context.Background()
	ids := []auth.Identity{{User: "joe", Domain: "dom.example"}, {User: "ann", Domain: "dom.example"},
		{User: "joe", Domain: "one.example"}, {User: "joe", Domain: "two.example"}}
	fill := func() {
		t.Helper()
		for _, id := range ids {
			r.ask(auth.Request{Op: auth.OpAuth, User: id.User, Domain: id.Domain, Secret: auth.NewSecret("good")})
			eventually(t, "the hashing", func() bool {
				u, err := r.CachedUser(ctx, id)
				return err == nil && len(u.Verifiers) == 1 && u.Verifiers[0].Hash != ""
			})
		}
		counted(t, disk, 4)
	}
	steps := []struct {
		name   string
		forget func() error
		left   []bool // which of ids are still known
	}{
		{"a user", func() error { return r.ForgetUser(ctx, ids[0]) }, []bool{false, true, true, true}},
		{"a user of the fallback domain", func() error { return r.ForgetUser(ctx, ids[3]) }, []bool{true, true, true, false}},
		{"a domain", func() error { return r.ForgetDomain(ctx, "dom.example") }, []bool{false, false, true, true}},
		{"a domain within the fallback", func() error { return r.ForgetDomain(ctx, "one.example") }, []bool{true, true, false, true}},
		{"all", func() error { return r.Flush(ctx) }, []bool{false, false, false, false}},
	}
	for _, step := range steps {
		fill()
		if err := step.forget(); err != nil {
			t.Fatal(err)
		}
		left := 0
		for i, id := range ids {
			u, err := r.CachedUser(ctx, id)
			if err != nil || (len(u.Verifiers) == 1) != step.left[i] {
				t.Errorf("after forgetting %s, %v has %d verifiers (%v)", step.name, id, len(u.Verifiers), err)
			}
			if step.left[i] {
				left++
			}
		}
		counted(t, disk, left)
	}
}

func TestCacheAdministrationErrors(t *testing.T) {
	f := new(faults)
	r := newRig(t, func(s *setup) { s.inject = f.inject })
	ctx := context.Background()
	unknown := auth.Identity{User: "joe", Domain: "elsewhere.example"}
	_, err := r.CachedUser(ctx, unknown)
	for name, err := range map[string]error{
		"CachedUser": err, "ForgetUser": r.ForgetUser(ctx, unknown), "ForgetDomain": r.ForgetDomain(ctx, unknown.Domain),
	} {
		if !errors.Is(err, router.ErrUnknownDomain) {
			t.Errorf("%s of an unknown domain: %v", name, err)
		}
	}
	release := r.stuck(f, "cache0")
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := r.Flush(over); !errors.Is(err, supervise.ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Errorf("Flush of a shard that does not answer: %v", err)
	}
	release()
	if err := r.Flush(ctx); err != nil {
		t.Error(err)
	}
	r.stop()
	if err := r.Flush(ctx); !errors.Is(err, supervise.ErrStopped) {
		t.Errorf("Flush after the end: %v", err)
	}
}

// TestCacheStats counts one of each kind of answer.
func TestCacheStats(t *testing.T) {
	g := newScriptedBackend("good")
	r := g.rig(t, config.StorageDisk)
	r.auth("joe", "good") // asked, hashed
	r.hashed("joe", 1)
	r.auth("joe", "good") // hot
	r.auth("joe", "bad")  // asked, refused
	r.auth("joe", "bad")  // refused before
	r.auth("eve", "bad")  // asked, refused
	r.clock.advance(2 * hour)
	g.always(backend.Outage)
	r.auth("joe", "good") // asked, grace
	got := r.stats()
	want := memory.Stats{Users: 1, Strangers: 1, Hot: 1, Missed: 4, Hashes: 1, BackendAsked: 4, Graces: 1, Refusals: 2, RefusedBefore: 1}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
