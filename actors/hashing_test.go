package actors

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
)

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
			return backend.NewUsers(backend.UsersOptions{Path: path, Cost: passhash.MinCost}, func(ctx context.Context, id auth.Identity, run func()) error {
				return hashing(ctx, id, func() {
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
	ask(auth.OpAuth, "good", unavailable)
	ask(auth.OpSetPass, "better", unavailable)
	ask(auth.OpRemoveUser3, "good", unavailable)
	if now, err := os.ReadFile(path); err != nil || string(now) != line {
		t.Errorf("the users file is %q, %v", now, err)
	}
	panics.Store(false)
	ask(auth.OpAuth, "good", allow)
	ask(auth.OpSetPass, "better", allow)
	ask(auth.OpAuth, "better", allow)
}
