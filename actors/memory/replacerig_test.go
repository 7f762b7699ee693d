package memory

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/call"
	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/slots"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// answers is a backend that a test has answer.
type answers func(backend.Query) backend.Class

func (f answers) Ask(_ context.Context, q backend.Query) backend.Result {
	return backend.Result{Class: f(q)}
}

func (answers) Close() error { return nil }

// replaceRig is a memory of one shard in which a test replaces domains at exact moments.
type replaceRig struct {
	*Shards
	t      testing.TB
	calls  *supervise.RefCount // in the place of a router
	ended  atomic.Bool         // calls
	lookup func(name string) *domain.Domain
	moved  func(*call.Call) // Reroute
	clock  func() time.Time
}

// Current implements Directory.
func (r *replaceRig) Current(name string) *domain.Domain { return r.lookup(name) }

// Served implements Directory.
func (r *replaceRig) Served(string) bool { return true }

// Reroute implements Directory.
func (r *replaceRig) Reroute(c *call.Call) { r.moved(c) }

// newReplaceRig starts a memory. disk may be nil.
func newReplaceRig(t testing.TB, disk store.Store) *replaceRig {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	ctx, cancel := context.WithCancel(context.Background())
	r := &replaceRig{t: t, clock: time.Now}
	r.calls = supervise.NewRefCount(func() { r.ended.Store(true) })
	system := supervise.NewSystem(supervise.Options{Log: log, FirstPause: time.Millisecond, MaxPause: time.Millisecond})
	e := env.New(ctx, system, log, func() time.Time { return r.clock() })
	var err error
	if r.Shards, err = Start(e, 1, r); err != nil {
		t.Fatal(err)
	}
	if disk != nil {
		e.SetDisk(store.NewWriteBehind(disk, r.StoreWritten))
	}
	t.Cleanup(func() {
		cancel()
		r.Hashing.Close(context.Background())
		r.Stop()
		if w := e.Disk(); w != nil {
			w.Close()
		}
		system.Close()
	})
	return r
}

// backend starts the slots of a backend.
func (r *replaceRig) backend(name string, ask answers) *slots.Backend {
	r.t.Helper()
	cfg := config.Backend{BackendRef: config.BackendRef{Kind: "json", Name: name}, Slots: 8, Queue: 64, BreakerFailures: 1000, BreakerCooldown: time.Second}
	b, err := slots.New(r.env, cfg, ask, func(*slots.Backend) {})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { b.Close(time.Second) })
	return b
}

// domain makes a value of a block.
func (r *replaceRig) domain(block string, storage config.Storage, b *slots.Backend) *domain.Domain {
	r.t.Helper()
	ref := config.BackendRef{Kind: "json", Name: b.Name}
	d, err := domain.New(config.Domain{
		Name: block, Backends: []config.BackendRef{ref},
		Cache: config.Cache{
			Storage: storage, QueryTTL: time.Hour, VerifyTTL: 24 * time.Hour, OutageTTL: 168 * time.Hour,
			RefusedTTL: 5 * time.Minute, ExistsTTL: time.Hour, AbsentTTL: time.Minute,
			BcryptCost: 4, Secrets: 4, HotEntries: 10000,
		},
	}, map[config.BackendRef]*slots.Backend{ref: b}, &domain.Shared{Name: block})
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// reply brings the answer of a call.
type reply chan auth.Answer

// Answered implements call.Asker.
func (a reply) Answered(c *call.Call) {
	answer, _ := c.Result()
	a <- answer
}

// ask sends a question about joe to its shard, as a router that found d would.
func (r *replaceRig) ask(op auth.Operation, secret string, d *domain.Domain) reply {
	return r.askOf(op, "joe", secret, d)
}

func (r *replaceRig) askOf(op auth.Operation, user, secret string, d *domain.Domain) reply {
	a := make(reply, 1)
	id := auth.Identity{User: user, Domain: "dom.example"}
	now := time.Now()
	c := &call.Call{
		Req: auth.Request{Op: op, User: user, Domain: id.Domain, Secret: auth.NewSecret(secret)}, ID: id, Name: user,
		Hash: r.Hash(id), Received: now, Deadline: now.Add(4 * time.Second), Asker: a, Domain: d,
	}
	if op == auth.OpAuth {
		c.Key = r.Key(id, c.Req.Secret, false)
	}
	if !r.calls.Acquire() {
		r.t.Fatal("the router has ended")
	}
	c.Admit(r.calls)
	r.Ref(c.Hash).Send(c)
	return a
}

// restarted waits until the first shard takes messages again: it fails them between a panic and its
// restart.
func (r *replaceRig) restarted() {
	r.t.Helper()
	for errors.Is(supervise.Ask(r.t.Context(), r.refs[0], func(*shard) {}), supervise.ErrPanicked) {
	}
}

// want checks an answer, which must come soon.
func (r *replaceRig) want(a reply, v auth.Verdict, s auth.Source) {
	r.t.Helper()
	select {
	case got := <-a:
		if got.Verdict != v || got.Source != s {
			r.t.Errorf("answered %v (%v), want %v (%v)", got.Verdict, got.Source, v, s)
		}
	case <-time.After(3 * time.Second):
		r.t.Fatal("there is no answer")
	}
}

// idle waits until nothing is under way.
func (r *replaceRig) idle() {
	r.t.Helper()
	for end := time.Now().Add(3 * time.Second); r.calls.Held(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%d users of the router are left", r.calls.Holders())
		}
	}
}
