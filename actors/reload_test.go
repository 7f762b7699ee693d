package actors

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
)

// altered is a copy of the rig's configuration, changed.
func (r *rig) altered(change func(*config.Config)) *config.Config {
	c := clone(r.cfg)
	change(c)
	return c
}

func clone(cfg *config.Config) *config.Config {
	c := *cfg
	c.Listeners, c.Backends, c.Domains = slices.Clone(c.Listeners), slices.Clone(c.Backends), slices.Clone(c.Domains)
	return &c
}

// tryReload reloads with a changed configuration, for whose new listeners it opens sockets.
func (r *rig) tryReload(change func(*config.Config)) (map[string]net.Listener, error) {
	r.t.Helper()
	next := Reload{Config: r.altered(change), Sockets: make(map[string]net.Listener)}
	for _, l := range config.Diff(r.Broker.cfg, next.Config).Listeners.Added {
		socket, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			r.t.Fatal(err)
		}
		next.Sockets[l.Name] = socket
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := r.Reload(ctx, next)
	if err == nil {
		r.cfg = next.Config
	}
	return next.Sockets, err
}

func (r *rig) reload(change func(*config.Config)) map[string]net.Listener {
	r.t.Helper()
	sockets, err := r.tryReload(change)
	if err != nil {
		r.t.Fatal(err)
	}
	return sockets
}

// actors are the names in the tree.
func (r *rig) actors() (names []string) {
	for _, line := range r.Tree()[1:] {
		name, _, _ := strings.Cut(strings.Fields(line)[0], "#") // the number of a backend that came anew
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func ownBlock(c *config.Config)   { c.Domains[0].Name = "dom.example" }
func onlyOthers(c *config.Config) { c.Domains[0].Name = "*" }

// beside has the fallback first, and a block for the rig's domain.
func beside(c *config.Config) {
	own := c.Domains[0]
	own.Name = "dom.example"
	c.Domains = []config.Domain{c.Domains[0], own}
	c.Domains[0].Name = "*"
}

func quicker(c *config.Config)      { c.Domains[0].Cache.QueryTTL = 30 * time.Minute }
func otherBackend(c *config.Config) { c.Backends[0].Slots++ }
func nowhere(c *config.Config)      { c.Domains[0].Name = "elsewhere.example" }

// TestReloadNothing: what did not change is not touched.
func TestReloadNothing(t *testing.T) {
	r := newRig(t, withTokens)
	before, tree := *r.table.Load().domains["dom.example"].params.Load(), r.actors()
	r.reload(func(c *config.Config) {
		c.Domains[0].JSXC = &config.JSXCToken{Secrets: []auth.Secret{auth.NewSecret(tokenSecret.Reveal())}, TTL: time.Hour}
	})
	after := r.table.Load().domains["dom.example"].params.Load()
	if before.jsxc != after.jsxc || before.hops[0] != after.hops[0] || r.fake.closed.Load() {
		t.Error("an equal configuration changed something")
	}
	if !slices.Equal(r.actors(), tree) {
		t.Errorf("the actors are %q, they were %q", r.actors(), tree)
	}
}

// TestReloadKeepsCache: what is remembered outlives changes of rules and of backends, and the
// new rules count from then on.
func TestReloadKeepsCache(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"rules": quicker, "backend": otherBackend, "to the fallback": onlyOthers, "fallback beside": beside,
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegime("good")
			r := g.rig(t, config.StorageDisk)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r.want(r.auth("joe", "bad"), deny, fromBackend)
			r.hashed("joe", 1)
			asked := r.fake.asked.Load()
			for range 3 { // there and back, and there
				r.reload(change)
				r.want(r.auth("joe", "good"), allow, hot)
				r.reload(ownBlock)
				r.want(r.auth("joe", "good"), allow, hot)
			}
			if n := r.fake.asked.Load(); n != asked {
				t.Errorf("the backend was asked %d times", n-asked)
			}
			if name != "rules" {
				return
			}
			r.want(r.auth("joe", "bad"), deny, auth.SourceRefusedBefore)
			r.reload(quicker)
			r.clock.advance(31 * time.Minute)
			r.want(r.auth("joe", "good"), allow, fromBackend)
		})
	}
}

// TestReloadForgetsRefusals: what one backend refused, another is asked about.
func TestReloadForgetsRefusals(t *testing.T) {
	for name, change := range map[string]func(*config.Config){"backend": otherBackend, "fallback": func(c *config.Config) {
		c.Backends[0].Slots++
		c.Domains[0].Name = "*"
	}} {
		t.Run(name, func(t *testing.T) {
			g := newRegime("good")
			r := g.rig(t, config.StorageMemory)
			r.want(r.auth("joe", "new"), deny, fromBackend)
			r.want(r.auth("joe", "new"), deny, auth.SourceRefusedBefore)
			g.change("new")
			r.reload(change)
			r.want(r.auth("joe", "new"), allow, fromBackend)
		})
	}
}

// TestReloadSingleUse: no reload makes a used token good again.
func TestReloadSingleUse(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageNone, config.StorageMemory, config.StorageDisk} {
		for name, steps := range map[string][]func(*config.Config){
			"rules":      {quicker},
			"backend":    {otherBackend},
			"tokens off": {func(c *config.Config) { c.Domains[0].TOTP = nil }, nil},
			"removed":    {nowhere, ownBlock},
			"handed on":  {beside},
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
// was put before, is dead, whoever has the user by then.
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
				g, held := newRegime("good"), newGate()
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
	held := newGate()
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
		"none":            {to(config.StorageNone), to(config.StorageDisk)},
		"memory":          {to(config.StorageMemory), to(config.StorageDisk)},
		"none, fallback":  {toFallback(config.StorageNone), to(config.StorageDisk)},
		"handed to none":  {toFallback(config.StorageNone), func(c *config.Config) { ownBlock(c); to(config.StorageDisk)(c) }},
		"handed to other": {toFallback(config.StorageMemory), func(c *config.Config) { ownBlock(c); to(config.StorageDisk)(c) }},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRegime("good")
			r := g.rig(t, config.StorageDisk)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r.hashed("joe", 1)
			r.reload(c[0])
			g.change("new")
			r.clock.advance(2 * time.Hour)
			r.want(r.auth("joe", "good"), deny, fromBackend)
			if name == "memory" {
				// As if others had pushed joe out of memory.
				eventually(t, "joe to be forgotten", func() bool {
					r.table.Load().domains["dom.example"].orderAll(func(_ int, s *shard) {
						s.users.drop(func(auth.Identity) bool { return true })
					})
					return true
				})
			}
			r.reload(c[1])
			g.always(backend.Outage)
			if a := r.auth("joe", "good"); a.Verdict == auth.Allow {
				t.Errorf("the refused password was answered %v (%v)", a.Verdict, a.Source)
			}
		})
	}
}

// TestReloadOpensStore: the first domain that is kept on disk brings the store.
func TestReloadOpensStore(t *testing.T) {
	disk := openStore(t)
	joe := auth.Identity{User: "joe", Domain: "dom.example"}
	r := newRig(t, nil)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	next := r.altered(func(c *config.Config) { c.Domains[0].Cache.Storage = config.StorageDisk })
	if _, err := r.Reload(context.Background(), Reload{Config: next, Store: disk}); err != nil {
		t.Fatal(err)
	}
	r.want(r.auth("joe", "good"), allow, hot)
	r.want(r.auth("ann", "good"), allow, fromBackend)
	eventually(t, "ann on disk", func() bool { u := onDiskOf(t, disk, "ann"); return u != nil && len(u.Verifiers) == 1 })
	if err := r.ForgetUser(context.Background(), joe); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if _, err := disk.Get([]byte("no such key")); err == nil {
		t.Error("the store is not usable after the end")
	}
}

// TestReloadBackend: what was asked before is answered by the backend that was asked, which is
// closed when it has nothing more to do; what comes after goes to the other.
func TestReloadBackend(t *testing.T) {
	held, second := newGate(), &fakeBackend{}
	r := newRig(t, func(s *setup) {
		s.fake.ask = held.ask
		s.cfg.Backends[0].Slots = 1
		s.more = map[string]*fakeBackend{"second": second}
	})
	asked, waiting := r.start("joe", "good"), r.start("ann", "good")
	held.reached(t, 1)
	eventually(t, "ann to wait", func() bool { return r.stats().BackendAsked == 2 })
	r.reload(func(c *config.Config) {
		c.Backends[0].Name = "second"
		c.Domains[0].Backends = []config.BackendRef{c.Backends[0].BackendRef}
	})
	r.want(r.auth("eve", "good"), allow, fromBackend)
	if second.asked.Load() != 1 || r.fake.closed.Load() {
		t.Errorf("the new backend was asked %d times; the old one is closed: %v", second.asked.Load(), r.fake.closed.Load())
	}
	held.open()
	r.want(<-asked, allow, fromBackend)
	r.want(<-waiting, allow, fromBackend)
	eventually(t, "the end of the old backend", r.fake.closed.Load)
	eventually(t, "the end of its actor", func() bool { return !slices.Contains(r.actors(), "backend.json.fake") })
	if n := second.asked.Load(); n != 1 {
		t.Errorf("the new backend was asked %d times", n)
	}
}

// TestReloadRemovesDomain: what is in flight is answered, what comes is refused, and then the
// actors are gone and what only memory knew is on disk.
func TestReloadRemovesDomain(t *testing.T) {
	held, disk := newGate(), openStore(t)
	r := newRig(t, func(s *setup) { onDisk(s, disk) })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)
	r.clock.advance(10 * time.Minute)
	r.want(r.auth("joe", "good"), allow, hot)
	used := cache.At(r.clock.now())
	r.fake.ask = held.ask
	before := r.start("ann", "good")
	held.reached(t, 1)
	tree := len(r.actors())
	r.reload(nowhere)
	r.want(r.auth("joe", "good"), deny, auth.SourceUnknownDomain)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Reload(ctx, Reload{Config: r.altered(ownBlock)}); err == nil {
		t.Error("a domain was started beside its old self")
	}
	held.open()
	r.want(<-before, allow, fromBackend)
	eventually(t, "the end of the actors", func() bool { return len(r.actors()) == tree })
	if u := onDiskOf(t, disk, "joe"); u == nil || used-u.Verifiers[0].Used > 5000 {
		t.Errorf("on disk is %+v", u)
	}
}

// TestReloadInvalid: what cannot be had leaves everything as it was.
func TestReloadInvalid(t *testing.T) {
	second := &fakeBackend{}
	r := newRig(t, func(s *setup) { s.more = map[string]*fakeBackend{"second": second} })
	address := r.listen(listenerBlock("generic"))
	tree := r.actors()
	for name, change := range map[string]func(*config.Config){
		"protocol": func(c *config.Config) { c.Listeners = []config.Listener{{Name: "gopher", Protocol: "gopher"}} },
		"seed": func(c *config.Config) {
			more := c.Domains[0]
			more.Name = "other.example"
			c.Domains = append(c.Domains, more, more)
			c.Domains[2].Name = "third.example"
			c.Domains[2].TOTP = &config.TOTPToken{Seed: auth.NewSecret("0"), Secrets: []auth.Secret{auth.NewSecret("x")}}
			c.Backends = append(c.Backends, c.Backends[0])
			c.Backends[1].Name = "second"
		},
	} {
		second.closed.Store(false)
		sockets, err := r.tryReload(change)
		if err == nil {
			t.Errorf("%s: reloaded", name)
		}
		for _, s := range sockets {
			if err := s.Close(); err != nil {
				t.Errorf("%s: the socket is not the caller's: %v", name, err)
			}
		}
		if name == "seed" {
			eventually(t, "the end of the backend that nobody has", second.closed.Load)
		}
		eventually(t, "the actors as before", func() bool { return slices.Equal(r.actors(), tree) })
		r.want(r.ask(at("other.example", "joe", "good")), deny, auth.SourceUnknownDomain)
		if got := r.exchange(address, "auth:joe:dom.example:good\n"); got != "1\n" {
			t.Errorf("%s: answered %q", name, got)
		}
	}
	second.closed.Store(true)
}

// TestReloadListeners: sockets and connections of what stays, stay.
func TestReloadListeners(t *testing.T) {
	held := newGate()
	r := newRig(t, func(s *setup) {
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			switch q.User {
			case "slow":
				return held.ask(ctx, q)
			case "down":
				return outage(ctx, q)
			}
			return goodPassword(q)
		}
	})
	stays, goes := listenerBlock("ejabberd"), listenerBlock("ejabberd")
	stays.Name, goes.Name = "stays", "goes"
	stays.Address, goes.Address = "127.0.0.1:1", "127.0.0.1:2" // as config sees them
	sockets := r.reload(func(c *config.Config) { c.Listeners = []config.Listener{stays, goes} })
	staying, going := sockets["stays"].Addr().String(), sockets["goes"].Addr().String()
	old, idle, busy := r.dial(staying), r.dial(going), r.dial(going)
	joe, is := yes.frame("ejabberd"), yes.reply("ejabberd")
	for _, c := range []client{old, idle, busy} {
		roundTripText(t, c, joe, is)
	}
	if _, err := io.WriteString(busy, question{op: "auth", user: "slow", domain: "dom.example", secret: "good"}.frame("ejabberd")); err != nil {
		t.Fatal(err)
	}
	held.reached(t, 1)
	r.reload(func(c *config.Config) {
		c.Listeners = []config.Listener{stays}
		c.Listeners[0].BinaryAnswers, c.Listeners[0].Name, c.Listeners[0].MaxConnections = true, "renamed", 2
	})
	ended(t, idle, "")
	if c, err := net.Dial("tcp", going); err == nil {
		_ = c.Close()
		t.Error("the removed listener still listens")
	}
	down := question{op: "auth", user: "down", domain: "dom.example", secret: "good"}.frame("ejabberd")
	roundTripText(t, old, down, cannotFrame)                    // as it began
	roundTripText(t, r.dial(staying), down, "\x00\x02\x00\x00") // with the new parameters
	third := r.dial(staying)
	if _, err := io.WriteString(third, joe); err != nil {
		t.Fatal(err)
	}
	held.open()
	ended(t, busy, is)
	_ = old.Close() // makes room for the third
	got := make([]byte, len(is))
	if _, err := io.ReadFull(third, got); err != nil || string(got) != is {
		t.Errorf("the third connection was answered %q, %v", got, err)
	}
	if slices.Contains(r.actors(), "listener:goes") {
		t.Errorf("the actors are %q", r.actors())
	}
	if r.listenerOf(config.Listener{Name: "renamed", Address: stays.Address}) == nil {
		t.Error("the renamed listener is not found")
	}
}
