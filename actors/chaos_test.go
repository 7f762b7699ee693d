package actors

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
)

// TestChaosPanics: at one percent of the messages of every actor there is a panic, for a while
// (with POSTERN_CHAOS for a minute); every request is answered, rightly or as a temporary
// failure, shared rosters are kept up to date all the same, and nothing is left behind.
func TestChaosPanics(t *testing.T) {
	length := 2 * time.Second
	if os.Getenv("POSTERN_CHAOS") != "" {
		length = time.Minute
	}
	const users = 20
	e := newEjabberd(t)
	var raging atomic.Bool
	var mu sync.Mutex
	hit := make(map[string]int) // panics, by kind of actor
	var rosters atomic.Int64
	answer := teams(&rosters, users)
	r := newRosterRig(t, e, func(s *setup) {
		withTokens(s)
		s.level, s.quickRestarts = slog.LevelError+1, true
		s.cfg.Domains[0].Roster.MinInterval = 10 * time.Millisecond
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			if raging.Load() && rand.N(100) == 0 {
				panic(injected("backend"))
			}
			return answer(ctx, q)
		}
		s.inject = func(name string, _ any) {
			if !raging.Load() || rand.N(100) != 0 {
				return
			}
			mu.Lock()
			hit[kindOfActor(name)]++
			mu.Unlock()
			panic(injected("chaos"))
		}
	})
	cfg := listenerBlock("ejabberd")
	cfg.Pipeline = 4
	address := r.listen(cfg)
	raging.Store(true)
	kinds := []string{"domain", "token", "cache", "roster", "backend", "conn"}
	missed := func(kind string) bool {
		mu.Lock()
		defer mu.Unlock()
		return hit[kind] == 0
	}
	known, asked, end := 0, 0, time.Now().Add(length)
	goesOn := func() bool { // on a busy machine longer, until each kind was hit
		return time.Now().Before(end) || asked < 100_000 && slices.ContainsFunc(kinds, missed)
	}
	for ; goesOn() && !t.Failed(); asked += 8 * 48 {
		known += r.askOnConnections(address, 8, 48)
		r.Tree()
	}
	raging.Store(false)
	eventually(t, "recovery", r.recovered)
	eventually(t, "the last answer", func() bool { return r.gate.InFlight() == 0 })
	for i := range users {
		user := fmt.Sprint("user", i)
		eventually(t, "a login", func() bool { return r.auth(user, "good").Verdict == auth.Allow })
	}
	for _, kind := range kinds {
		if missed(kind) {
			t.Errorf("no panic in an actor %s: %v", kind, hit)
		}
	}
	if known < asked/4 {
		t.Errorf("only %d of %d requests had a yes or no", known, asked)
	}
	eventually(t, "the roster", func() bool {
		r.clock.advance(time.Minute)
		for i := range users {
			r.auth(fmt.Sprint("user", i), "good")
		}
		return len(e.Group("Team")) == users
	})
	t.Logf("%d of %d requests had a yes or no; panics: %v", known, asked, hit)
}

// kindOfActor is the last part of an actor's name, without its number.
func kindOfActor(name string) string {
	name, _, _ = strings.Cut(name, "#")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return strings.TrimRight(name[i+1:], "0123456789")
	}
	kind, _, _ := strings.Cut(name, ":")
	kind, _, _ = strings.Cut(kind, ".")
	return strings.TrimRight(kind, "0123456789")
}
