package actors

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/config"
	"postern/internal/store"
)

// TestReloadUnderLoad: a hundred reloads of every kind, and every request meanwhile has its
// right answer: none is lost, and none is a temporary failure.
func TestReloadUnderLoad(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
		t.Run(string(storage), func(t *testing.T) {
			second := &fakeBackend{}
			var disk store.Store
			if storage == config.StorageDisk {
				disk = openStore(t)
			}
			r := newRig(t, func(s *setup) {
				withTokens(s)
				s.level = slog.LevelError
				s.cfg.Backends[0].Slots, s.cfg.Backends[0].Queue = 64, 4096
				s.cfg.Backends = append(s.cfg.Backends, s.cfg.Backends[0])
				s.cfg.Backends[1].Name = "second"
				s.more = map[string]*fakeBackend{"second": second}
				if disk != nil {
					onDisk(s, disk)
				}
			})
			first := r.cfg
			r.reload(beside) // one round, so that the tree has all that it ever will
			r.reload(func(c *config.Config) { *c = *clone(first) })
			eventually(t, "the end of the fallback", func() bool {
				return !slices.ContainsFunc(r.actors(), func(name string) bool { return strings.HasPrefix(name, "domain:*") })
			})
			tree := r.actors()
			address := r.listen(listenerBlock("ejabberd"))
			var over atomic.Bool
			var asked atomic.Int64
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					r.askUntil(address, rand.New(rand.NewPCG(uint64(i), 2)), true, &over, &asked)
				}()
			}
			for i := range 100 {
				was := asked.Load()
				r.reload(func(c *config.Config) { *c = *clone(first); reloadKinds[i%len(reloadKinds)](c) })
				eventually(t, "some questions", func() bool { return asked.Load() > was+40 || t.Failed() })
			}
			over.Store(true)
			wg.Wait()
			r.reload(func(c *config.Config) { *c = *first })
			eventually(t, "the actors that there were", func() bool { return slices.Equal(withoutListeners(r.actors()), withoutListeners(tree)) })
			t.Logf("%d requests during 100 reloads", asked.Load())
		})
	}
}

// reloadKinds change everything but the answers.
var reloadKinds = []func(*config.Config){
	quicker,
	otherBackend,
	beside,
	onlyOthers,
	func(c *config.Config) { c.Domains[0].Backends = []config.BackendRef{c.Backends[1].BackendRef} },
	func(c *config.Config) {},
	func(c *config.Config) {
		beside(c)
		c.Backends[1].Queue++
		c.Domains[0].Backends = append([]config.BackendRef{c.Backends[1].BackendRef}, c.Domains[0].Backends...)
	},
	func(c *config.Config) { c.Domains[0].Cache.HotEntries = 32; c.Domains[0].TOTP = nil },
	func(c *config.Config) {
		more := c.Domains[0]
		more.Name = "more.example"
		c.Domains = append(c.Domains, more)
		l := listenerBlock("generic")
		l.Address = "127.0.0.1:1"
		c.Listeners = []config.Listener{l}
	},
	func(c *config.Config) { c.Domains[0].Cache.Storage = config.StorageNone },
}

// withoutListeners drops the names of listeners' actors.
func withoutListeners(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.HasPrefix(name, "listener:") })
}

// askUntil asks questions on a connection of its own until over is set. Each must have its
// right answer or, if that is not strict, a temporary failure.
func (r *rig) askUntil(address string, random *rand.Rand, strict bool, over *atomic.Bool, asked *atomic.Int64) {
	c := r.dial(address)
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	tokens := make([]string, 20)
	for i := range tokens {
		tokens[i] = r.jsxcToken(fmt.Sprint("user", i), 365*24*time.Hour)
	}
	in := bufio.NewReader(c)
	for !over.Load() {
		burst := make([]question, 16)
		for i := range burst {
			for burst[i] = anyQuestion(random, tokens); burst[i].domain != "dom.example"; {
				burst[i] = anyQuestion(random, tokens)
			}
		}
		right, err := exchangeBurst(r.t, c, in, burst)
		if err != nil || strict && right < len(burst) {
			r.t.Errorf("%d of %d right answers, %v", right, len(burst), err)
			return
		}
		asked.Add(int64(len(burst)))
		r.clock.advance(20 * time.Second) // so that some has to be asked again
	}
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		r.t.Errorf("after the last answer came %x, %v", rest, err)
	}
}

// TestReloadInStorm: in a storm of panics reloads end, and so does what they remove.
func TestReloadInStorm(t *testing.T) {
	faulty := new(storm)
	r := newRig(t, func(s *setup) {
		// In memory: on disk each restart of a shard has all its users hashed again, and a removed
		// domain waits for these seconds of work.
		withTokens(s)
		s.fake.ask, s.level = faulty.ask, slog.LevelError+1
		s.inject, s.quickRestarts = faulty.inject, true
	})
	first := r.cfg
	cfg := listenerBlock("ejabberd")
	cfg.Pipeline = 4
	address := r.listen(cfg)
	faulty.raging.Store(true)
	var over atomic.Bool
	var asked atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r.askUntil(address, rand.New(rand.NewPCG(uint64(i), 3)), false, &over, &asked)
		}()
	}
	kinds := []func(*config.Config){beside, quicker, onlyOthers, ownBlock}
	for i := range 40 {
		was := asked.Load()
		r.reload(func(c *config.Config) { *c = *clone(first); kinds[i%len(kinds)](c) })
		eventually(t, "some questions", func() bool { return asked.Load() > was+16 || t.Failed() })
	}
	over.Store(true)
	wg.Wait()
	faulty.raging.Store(false)
	eventually(t, "recovery", r.recovered)
	r.reload(nowhere)
	r.reload(func(c *config.Config) { *c = *clone(first) })
	eventually(t, "the end of the other domains", func() bool {
		return !slices.ContainsFunc(r.actors(), func(name string) bool {
			return strings.HasPrefix(name, "domain:") && !strings.HasPrefix(name, "domain:dom.example")
		})
	})
	eventually(t, "a login", func() bool { return r.auth("user0", "good").Verdict == allow })
}

// TestReloadWhileStopping is refused.
func TestReloadWhileStopping(t *testing.T) {
	r := newRig(t, nil)
	r.Drain(context.Background())
	if _, err := r.Reload(context.Background(), Reload{Config: r.altered(quicker)}); !errors.Is(err, ErrReload) {
		t.Errorf("Reload returned %v", err)
	}
}

// TestStopWithRemoved: what a reload removed, and what it replaced, ends with the broker, also
// while it is busy.
func TestStopWithRemoved(t *testing.T) {
	held, second := newBarrier(), &fakeBackend{} // never opened
	r := newRig(t, func(s *setup) {
		s.fake.ask = held.ask
		s.more = map[string]*fakeBackend{"second": second}
	})
	answer := r.startRequest(login("joe", "good"), time.Minute)
	held.reached(t, 1)
	r.reload(func(c *config.Config) {
		c.Domains[0].Name, c.Backends[0].Name = "elsewhere.example", "second"
		c.Domains[0].Backends = []config.BackendRef{c.Backends[0].BackendRef}
	})
	answeredWithin(t, 8*time.Second, "Stop", r.stop)
	if a := <-answer; a.Verdict != unavailable {
		t.Errorf("answered %v (%v)", a.Verdict, a.Source)
	}
}
