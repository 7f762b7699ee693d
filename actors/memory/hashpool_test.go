package memory

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
)

func newTestPool(t *testing.T, workers, queue int) (*hashPool, *syncBuffer) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	log := new(syncBuffer)
	p := newHashPool(workers, queue, slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() { goleak.VerifyNone(t, append(othersGoroutines, before)...) })
	return p, log
}

// occupied submits a job that holds a worker until the test lets it go.
func occupied(p *hashPool) *hold {
	h := newHold()
	p.submit(hashJob{run: func() { close(h.reached); <-h.release }, failed: func() {}}, true)
	<-h.reached
	return h
}

// TestHashPoolOrder: logins come before the bookkeeping that follows other logins, and both
// queues are bounded.
func TestHashPoolOrder(t *testing.T) {
	p, _ := newTestPool(t, 1, 2)
	h := occupied(p)
	order := make(chan string, 4)
	job := func(name string) hashJob {
		return hashJob{run: func() { order <- name }, failed: func() { order <- name + " failed" }}
	}
	for _, name := range []string{"later 1", "later 2"} {
		if !p.submit(job(name), false) {
			t.Errorf("%s was not taken", name)
		}
	}
	for _, name := range []string{"login 1", "login 2"} {
		if !p.submit(job(name), true) {
			t.Errorf("%s was not taken", name)
		}
	}
	for _, urgent := range []bool{false, true} {
		if p.submit(job("more"), urgent) {
			t.Errorf("a full queue (urgent: %t) took another job", urgent)
		}
	}
	close(h.release)
	for _, want := range []string{"login 1", "login 2", "later 1", "later 2"} {
		if got := <-order; got != want {
			t.Errorf("%s ran, want %s", got, want)
		}
	}
	p.close()
}

// TestHashPoolRun is what the users backend does.
func TestHashPoolRun(t *testing.T) {
	p, log := newTestPool(t, 1, 2)
	ran := false
	if err := p.run(context.Background(), func() { ran = true }); err != nil || !ran {
		t.Errorf("ran: %t, %v", ran, err)
	}
	h := occupied(p)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := p.run(ctx, func() { t.Error("ran after its time") }); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errHashBusy) {
		t.Errorf("out of time: %v", err)
	}
	p.submit(hashJob{run: func() {}, failed: func() {}}, true)
	if err := p.run(context.Background(), func() { t.Error("ran beyond the bound") }); !errors.Is(err, errHashBusy) {
		t.Errorf("full: %v", err)
	}
	close(h.release)
	failed := make(chan struct{})
	eventually(t, "room", func() bool {
		return p.submit(hashJob{run: func() { panic("hunter2") }, failed: func() { close(failed) }}, true)
	})
	<-failed // the worker lives on
	if err := p.run(context.Background(), func() { panic("hunter2") }); !errors.Is(err, errHashBroken) {
		t.Errorf("after a panic: %v", err)
	}
	if err := p.run(context.Background(), func() {}); err != nil {
		t.Error(err)
	}
	p.close()
	if err := p.run(context.Background(), func() {}); !errors.Is(err, errHashBusy) {
		t.Errorf("after the end: %v", err)
	}
	if text := log.String(); !strings.Contains(text, "password hashing panicked") || strings.Contains(text, "hunter2") {
		t.Errorf("the log says %q", text)
	}
}

// TestHashingPanics: a panic while a password is compared or hashed is neither a "no", nor a change
// of the users file, nor a fault of the backend.
func TestHashingPanics(t *testing.T) {
	hash, err := passhash.New("good", passhash.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "users")
	line := "joe@dom.example:" + hash + "\n"
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	var panics atomic.Bool
	cfg := rigConfig()
	cfg.Backends[0].BreakerFailures = 1
	r, err := Start(Options{
		Config: cfg, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Backend: func(_ config.Backend, hashing backend.Hashing) (backend.Backend, error) {
			return backend.NewUsers(backend.UsersOptions{Path: path, Cost: passhash.MinCost}, func(ctx context.Context, run func()) error {
				return hashing(ctx, func() {
					if panics.Load() {
						panic("as the test wants it")
					}
					run()
				})
			})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	ask := func(op auth.Operation, password string, want auth.Verdict) {
		t.Helper()
		req := auth.Request{Op: op, User: "joe", Domain: "dom.example", Secret: auth.NewSecret(password)}
		if a := r.Ask(context.Background(), req, 4*time.Second).Answer; a.Verdict != want {
			t.Errorf("%v of %s: answered %v (%v), want %v", op, password, a.Verdict, a.Source, want)
		}
	}
	panics.Store(true)
	ask(auth.OpAuth, "good", cannot)
	ask(auth.OpSetPass, "better", cannot)
	ask(auth.OpRemoveUser3, "good", cannot)
	if now, err := os.ReadFile(path); err != nil || string(now) != line {
		t.Errorf("the users file is %q, %v", now, err)
	}
	panics.Store(false)
	ask(auth.OpAuth, "good", allow)
	ask(auth.OpSetPass, "better", allow)
	ask(auth.OpAuth, "better", allow)
}

// TestHashPoolEnd: every job that was taken runs or is failed, once, though the pool closes
// meanwhile.
func TestHashPoolEnd(t *testing.T) {
	for range 300 {
		p, _ := newTestPool(t, 2, 4)
		var taken, ended atomic.Int64
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				<-begin
				for range 20 {
					job := hashJob{run: func() { ended.Add(1) }, failed: func() { ended.Add(1) }}
					if p.submit(job, i%2 == 0) {
						taken.Add(1)
					}
				}
			}()
		}
		close(begin)
		p.close()
		wg.Wait()
		if taken.Load() != ended.Load() {
			t.Fatalf("%d jobs were taken, %d came to an end", taken.Load(), ended.Load())
		}
	}
}
