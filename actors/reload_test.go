package actors

import (
	"context"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
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

// tryReload reloads with a changed configuration, and opens sockets for its new listeners.
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

// numbers follow the names of actors that were started while others of the name were ending.
var numbers = regexp.MustCompile(`#\d+`)

// actors are the names in the tree.
func (r *rig) actors() (names []string) {
	for _, line := range r.Tree()[1:] {
		names = append(names, numbers.ReplaceAllString(strings.Fields(line)[0], ""))
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
	before, tree := r.table.Domains(false)["dom.example"], r.actors()
	r.reload(func(c *config.Config) {
		c.Domains[0].JSXC = &config.JSXCToken{Secrets: []auth.Secret{auth.NewSecret(tokenSecret.Reveal())}, TTL: time.Hour}
	})
	after := r.table.Domains(false)["dom.example"]
	if before != after || r.fake.closed.Load() {
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
			g := newScriptedBackend("good")
			r := g.rig(t, config.StorageDisk)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r.want(r.auth("joe", "bad"), deny, fromBackend)
			r.hashed("joe", 1)
			asked := r.fake.asked.Load()
			for range 3 { // there and back, and there
				remembered := hot
				if name == "to the fallback" { // another block: only what is on disk
					remembered = auth.SourceCache
				}
				for _, change := range []func(*config.Config){change, ownBlock} {
					r.reload(change)
					eventually(t, "an idle hash pool", func() bool { // or the backend would be asked in its place
						wait, _ := r.shards.Hashing.Expect(auth.Identity{User: "joe", Domain: "dom.example"}, 1)
						return wait == 0
					})
					r.want(r.auth("joe", "good"), allow, remembered)
				}
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
			g := newScriptedBackend("good")
			r := g.rig(t, config.StorageMemory)
			r.want(r.auth("joe", "new"), deny, fromBackend)
			r.want(r.auth("joe", "new"), deny, auth.SourceRefusedBefore)
			g.change("new")
			r.reload(change)
			r.want(r.auth("joe", "new"), allow, fromBackend)
		})
	}
}

// retrying is a backend that has given something up.
type retrying struct {
	*fakeBackend
	retries atomic.Int64
}

// Retry implements backend.Retrier.
func (b *retrying) Retry() { b.retries.Add(1) }

// TestReloadRetries: a reload that changes nothing has backends try again what they have given up: their
// servers may have changed.
func TestReloadRetries(t *testing.T) {
	var b *retrying
	r := newRig(t, func(s *setup) {
		s.wrap = func(f *fakeBackend) backend.Backend {
			b = &retrying{fakeBackend: f}
			return b
		}
	})
	r.reload(func(*config.Config) {})
	if n := b.retries.Load(); n != 1 {
		t.Errorf("tried again %d times", n)
	}
}
