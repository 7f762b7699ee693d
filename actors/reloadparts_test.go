package actors

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/unixtime"
)

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
	held, second := newBarrier(), &fakeBackend{}
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
	held, disk := newBarrier(), openStore(t)
	r := newRig(t, func(s *setup) { onDisk(s, disk) })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)
	r.clock.advance(10 * time.Minute)
	r.want(r.auth("joe", "good"), allow, hot)
	used := unixtime.At(r.clock.now())
	r.fake.ask = held.ask
	before := r.start("ann", "good")
	held.reached(t, 1)
	tree := len(r.actors())
	r.reload(nowhere)
	r.want(r.auth("joe", "good"), deny, auth.SourceUnknownDomain)
	held.open()
	r.want(<-before, allow, fromBackend)
	eventually(t, "the end of the actors", func() bool { return len(r.actors()) == tree })
	r.written()
	if u := onDiskOf(t, disk, "joe"); u == nil || used-u.Verifiers[0].Used > 5000 {
		t.Errorf("on disk is %+v", u)
	}
}

// TestReloadInvalid: a configuration that cannot be put in force changes nothing.
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
			eventually(t, "the end of the unused backend", second.closed.Load)
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
	held := newBarrier()
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
	roundTripText(t, old, down, unavailableFrame)               // as it began
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
	eventually(t, "the end of the removed listener's actor", func() bool { return !slices.Contains(r.actors(), "listener:goes") })
}
