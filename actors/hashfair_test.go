package actors

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
)

// TestHashingIsFair: guesses at a user with a hash on disk, more than the processors can compare, do
// not delay first logins at another domain with hashes of its own.
func TestHashingIsFair(t *testing.T) {
	disk := openStore(t)
	two := func(s *setup) {
		onDisk(s, disk)
		second := s.cfg.Domains[0]
		second.Name = "second.example"
		s.cfg.Domains = append(s.cfg.Domains, second)
	}
	r := newRig(t, two)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.want(r.ask(at("second.example", "ann", "good")), allow, fromBackend)
	r.hashed("joe", 1)
	eventually(t, "ann's hash", func() bool {
		u, err := r.CachedUser(context.Background(), auth.Identity{User: "ann", Domain: "second.example"})
		return err == nil && len(u.Verifiers) == 1 && u.Verifiers[0].Hash != ""
	})
	r.stop()
	r = newRig(t, func(s *setup) { two(s); s.fake.ask = outage })
	r.want(r.auth("nobody", "bad"), unavailable, fromBackend)
	release := r.busyHashing()
	for i := range 200 {
		r.start("joe", fmt.Sprint("guess", i))
	}
	eventually(t, "200 comparisons", func() bool { return r.stats().Compares >= 200 })
	answer := make(chan auth.Answer, 1)
	go func() { answer <- r.ask(at("second.example", "ann", "good")) }()
	eventually(t, "ann's comparison", func() bool {
		all, err := r.CacheStats(context.Background())
		return err == nil && all["second.example"].Compares > 0
	})
	release()
	r.want(<-answer, allow, auth.SourceCache)
}

// TestStopWithAFullQueue: a drain and a stop end in time, and a reload is not refused, whatever waits
// for a processor.
func TestStopWithAFullQueue(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, func(s *setup) { onDisk(s, disk) })
	for i := range 100 {
		r.want(r.auth(fmt.Sprint("user", i), "good"), allow, fromBackend)
	}
	for i := range 100 {
		r.hashed(fmt.Sprint("user", i), 1)
	}
	r.stop()
	r = newRig(t, func(s *setup) { onDisk(s, disk); s.fake.ask = outage })
	r.want(r.auth("nobody", "bad"), unavailable, fromBackend)
	release := r.busyHashing()
	address := r.listen(listenerBlock("ejabberd"))
	for i := range 100 {
		_, _ = io.WriteString(r.dial(address), question{op: "auth", user: fmt.Sprint("user", i), domain: "dom.example", secret: "guess"}.frame("ejabberd"))
	}
	eventually(t, "comparisons", func() bool { return r.stats().Compares >= 90 })
	r.reload(func(c *config.Config) { c.Domains[0].Limit.UserRefusals = 3 })
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if r.Drain(ctx) {
		t.Error("nothing waited")
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("the drain took %v", took)
	}
	go release() // a comparison that has begun is a quarter of a second's work
	answeredWithin(t, 4*time.Second, "Stop", r.stop)
}

// TestUsersFileTakesOneComparison: with a users file, a login takes one comparison, whether the user
// is known or not, and whether the cache has a hash or not.
func TestUsersFileTakesOneComparison(t *testing.T) {
	hash, err := passhash.New("good", passhash.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("joe@dom.example:"+hash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := rigConfig()
	cfg.Backends[0].Kind, cfg.Domains[0].Backends[0].Kind = config.KindUsers, config.KindUsers
	cfg.Domains[0].Cache.Storage, cfg.Domains[0].Cache.BcryptCost = config.StorageDisk, passhash.MinCost
	disk := openStore(t)
	var compared atomic.Int64
	start := func() *Broker {
		b, err := Start(Options{
			Config: cfg, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Store: disk,
			Backend: func(_ config.Backend, hashing backend.Hashing) (backend.Backend, error) {
				return backend.NewUsers(backend.UsersOptions{Path: path, Cost: passhash.MinCost}, func(ctx context.Context, id auth.Identity, run func()) error {
					compared.Add(1)
					return hashing(ctx, id, run)
				})
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := start()
	ask := func(user, password string, want auth.Verdict) {
		t.Helper()
		before := compared.Load()
		p := b.Ask(context.Background(), auth.Request{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(password)}, 4*time.Second)
		steps, _, _ := strings.Cut(fmt.Sprint(p.Steps), "(backend)") // what follows comes after the answer
		if n := compared.Load() - before; p.Answer.Verdict != want || n != 1 || strings.Contains(steps, "compared with stored hashes") {
			t.Errorf("%s: %v after %d comparisons: %s", user, p.Answer.Verdict, n, steps)
		}
	}
	ask("joe", "good", allow)
	eventually(t, "the hash", func() bool {
		u, err := b.CachedUser(context.Background(), auth.Identity{User: "joe", Domain: "dom.example"})
		return err == nil && len(u.Verifiers) == 1 && u.Verifiers[0].Hash != ""
	})
	b.Stop()
	b = start()
	defer b.Stop()
	ask("joe", "wrong", deny)
	ask("nobody", "wrong", deny)
	ask("joe", "good", allow)
}

// TestGraceDoesNotWait: after a login in an outage, the next ones do not wait for the backend, until
// the time of query_ttl is over, or another password was accepted.
func TestGraceDoesNotWait(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
		g := newScriptedBackend("good")
		r := g.rig(t, storage)
		r.asks(1, login("joe", "good"), allow, fromBackend)
		r.clock.advance(2 * hour)
		g.always(backend.Outage)
		r.asks(1, login("joe", "good"), allow, grace)
		for range 3 {
			r.clock.advance(19 * minute)
			r.asks(0, login("joe", "good"), allow, grace)
		}
		r.asks(1, login("joe", "bad"), unavailable, fromBackend)
		r.clock.advance(4 * minute)
		r.asks(1, login("joe", "good"), allow, grace)
		g.works()
		g.change("new")
		r.asks(1, login("joe", "new"), allow, fromBackend)
		r.asks(1, login("joe", "good"), deny, fromBackend)
	}
}
