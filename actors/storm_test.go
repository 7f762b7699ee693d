package actors

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// storm panics at random messages of all actors, and its backend fails now and then.
type storm struct {
	raging atomic.Bool
	panics atomic.Int64
}

func (s *storm) inject(string, any) {
	if s.raging.Load() && rand.N(100) < 2 {
		s.panics.Add(1)
		panic(injected("storm"))
	}
}

func (s *storm) ask(ctx context.Context, q backend.Query) backend.Result {
	if s.raging.Load() {
		switch rand.N(100) {
		case 0:
			panic(injected("backend"))
		case 1:
			return outage(ctx, q)
		}
	}
	return goodPassword(q)
}

// openStore opens a store for the length of the test. It must be opened before the rig, so
// that it is closed after it.
func openStore(t testing.TB) *store.Pebble {
	t.Helper()
	p, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// onDisk keeps the rig's cache in a store.
func onDisk(s *setup, in store.Store) {
	s.store = in
	s.cfg.Domains[0].Cache.Storage = config.StorageDisk
}

// TestStorm: in a storm of panics every request has one answer, in order: the right one or a
// temporary failure.
func TestStorm(t *testing.T) {
	// Each restart of a shard costs a hash for each of its users, hence less of it on disk.
	for storage, requests := range map[config.Storage]int{config.StorageMemory: 20000, config.StorageDisk: 4000} {
		t.Run(string(storage), func(t *testing.T) {
			faulty := new(storm)
			var disk store.Store
			if storage == config.StorageDisk {
				disk = openStore(t)
			}
			r := newRig(t, func(s *setup) {
				withTokens(s)
				s.inject, s.fake.ask, s.quickRestarts = faulty.inject, faulty.ask, true
				s.level = slog.LevelError + 1 // a stack for each panic is too much to keep
				if disk != nil {
					onDisk(s, disk)
				}
			})
			cfg := listenerBlock("ejabberd")
			cfg.Pipeline = 4 // else most requests find an actor that is about to be restarted
			address := r.listen(cfg)
			faulty.raging.Store(true)
			known := r.askOnConnections(address, 8, requests/8)
			faulty.raging.Store(false)
			eventually(t, "recovery", r.recovered)
			eventually(t, "the last answer", func() bool { return r.gate.InFlight() == 0 })
			eventually(t, "a login", func() bool { return r.auth("user0", "good").Verdict == auth.Allow })
			for i := range 20 {
				if a := r.auth(fmt.Sprint("user", i), "good"); a.Verdict != auth.Allow {
					t.Errorf("after the storm answered %v (%v)", a.Verdict, a.Source)
				}
			}
			if n := faulty.panics.Load(); n < 100 {
				t.Errorf("only %d panics", n)
			}
			if known < requests/4 {
				t.Errorf("only %d requests had a yes or no", known)
			}
			t.Logf("%d panics, %d of %d requests had a yes or no", faulty.panics.Load(), known, requests)
		})
	}
}

// askOnConnections sends n requests on each of some connections and returns how many had a yes or no.
func (r *rig) askOnConnections(address string, connections, n int) int {
	var known atomic.Int64
	var wg sync.WaitGroup
	for i := range connections {
		wg.Add(1)
		go func() {
			defer wg.Done()
			known.Add(r.askInBursts(address, rand.New(rand.NewPCG(uint64(i), 1)), n))
		}()
	}
	wg.Wait()
	return int(known.Load())
}

// askInBursts asks n questions on a connection of its own and checks each answer.
func (r *rig) askInBursts(address string, random *rand.Rand, n int) (known int64) {
	c := r.dial(address)
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	tokens := make([]string, 20)
	for i := range tokens {
		tokens[i] = r.jsxcToken(fmt.Sprint("user", i), 365*24*time.Hour)
	}
	questions := make([]question, n)
	for i := range questions {
		questions[i] = anyQuestion(random, tokens)
	}
	in := bufio.NewReader(c)
	for len(questions) > 0 {
		burst := questions[:min(16, len(questions))]
		questions = questions[len(burst):]
		right, err := exchangeBurst(r.t, c, in, burst)
		if err != nil {
			r.t.Error(err)
			return known
		}
		known += int64(right)
		if right < len(burst) {
			// A client retries later what was a temporary failure.
			for !r.recovered() {
				runtime.Gosched()
			}
		}
		r.clock.advance(2 * time.Minute) // so that much has to be asked again
		r.tickAll()
	}
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		r.t.Errorf("after the last answer came %x, %v", rest, err)
	}
	return known
}

// exchangeBurst asks some questions at once and returns how many had the right answer; the
// others were temporary failures.
func exchangeBurst(t testing.TB, c io.Writer, in io.Reader, burst []question) (right int, err error) {
	frames, _ := script("ejabberd", burst)
	if _, err := io.WriteString(c, frames); err != nil {
		return 0, err
	}
	for i, q := range burst {
		got := make([]byte, 4)
		if _, err := io.ReadFull(in, got); err != nil {
			return right, fmt.Errorf("answer %d of a burst: %w", i, err)
		}
		if string(got) == q.reply("ejabberd") {
			right++
		} else if string(got) != unavailableFrame {
			t.Errorf("answer to %+v: %x", q, got)
		}
	}
	return right, nil
}

// anyQuestion returns a question with a right answer that never changes.
func anyQuestion(random *rand.Rand, tokens []string) question {
	i := random.IntN(len(tokens))
	q := question{op: "auth", user: fmt.Sprint("user", i), domain: "dom.example", verdict: auth.Allow}
	switch random.IntN(10) {
	case 0:
		q.secret = tokens[i]
	case 1:
		q.op = "isuser"
	case 2:
		q.op, q.user, q.verdict = "isuser", "nobody", auth.Deny
	case 3, 4:
		q.secret, q.verdict = fmt.Sprint("bad", random.IntN(5)), auth.Deny
	case 5:
		q.secret, q.domain, q.verdict = "good", "elsewhere.example", auth.Deny
	default:
		q.secret = "good"
	}
	return q
}
