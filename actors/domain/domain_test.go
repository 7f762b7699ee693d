package domain

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/actors/env"
	"postern/actors/slots"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

type noBackend struct{}

func (noBackend) Ask(context.Context, backend.Query) backend.Result { return backend.Result{} }

func (noBackend) Close() error { return nil }

// newBackends starts backends by name. ended brings each when its last holder has let it go.
func newBackends(t *testing.T, names ...string) (all map[config.BackendRef]*slots.Backend, ended chan *slots.Backend) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	log := slog.New(slog.DiscardHandler)
	system := supervise.NewSystem(supervise.Options{Log: log})
	e := env.New(context.Background(), system, log, time.Now)
	all, ended = make(map[config.BackendRef]*slots.Backend), make(chan *slots.Backend, len(names))
	for _, name := range names {
		b, err := slots.New(e, config.Backend{BackendRef: ref(name), Slots: 1}, noBackend{}, func(b *slots.Backend) { ended <- b })
		if err != nil {
			t.Fatal(err)
		}
		all[ref(name)] = b
	}
	t.Cleanup(func() {
		for _, b := range all {
			b.Close(time.Minute)
		}
		system.Close()
		goleak.VerifyNone(t, before)
	})
	return all, ended
}

func ref(name string) config.BackendRef { return config.BackendRef{Kind: "json", Name: name} }

// block is a domain block on backends.
func block(names ...string) config.Domain {
	cfg := config.Domain{Name: "dom.example", Login: []string{"{user}"}}
	for _, name := range names {
		cfg.Backends = append(cfg.Backends, ref(name))
	}
	return cfg
}

// TestSameAuthority: whatever changes the answer to a password makes another authority, and nothing
// else does.
func TestSameAuthority(t *testing.T) {
	backends, _ := newBackends(t, "a", "b")
	another, _ := newBackends(t, "a")
	was := block("a", "b")
	for name, c := range map[string]struct {
		change func(*config.Domain)
		same   bool
	}{
		"nothing":        {func(*config.Domain) {}, true},
		"cache":          {func(d *config.Domain) { d.Cache.QueryTTL = time.Hour }, true},
		"limits":         {func(d *config.Domain) { d.Limit.UserRefusals = 1 }, true},
		"fewer backends": {func(d *config.Domain) { d.Backends = d.Backends[:1] }, false},
		"another order":  {func(d *config.Domain) { d.Backends = block("b", "a").Backends }, false},
		"login names":    {func(d *config.Domain) { d.Login = []string{"{user}@{domain}"} }, false},
		"name there":     {func(d *config.Domain) { d.AuthDomains = []string{"other.example"} }, false},
	} {
		cfg := was
		c.change(&cfg)
		first, second := must(New(was, backends, &Shared{})), must(New(cfg, backends, &Shared{}))
		if got := second.SameAuthority(first); got != c.same || first.SameAuthority(second) != c.same {
			t.Errorf("%s: the same: %t, want %t", name, got, c.same)
		}
		first.Retire()
		second.Retire()
	}
	first, second := must(New(block("a"), backends, &Shared{})), must(New(block("a"), another, &Shared{}))
	if first.SameAuthority(second) {
		t.Error("a backend that was made anew is the same")
	}
	first.Retire()
	second.Retire()
}

func must(d *Domain, err error) *Domain {
	if err != nil {
		panic(err)
	}
	return d
}

// TestBackendsAreHeld: a domain's backends are in use until its last user is done, however often it
// names one.
func TestBackendsAreHeld(t *testing.T) {
	backends, ended := newBackends(t, "a", "b")
	cfg := block("a", "b", "a")
	cfg.AuthDomains = []string{"one.example", "two.example"}
	d := must(New(cfg, backends, &Shared{}))
	if n := len(d.Hops); n != 6 || d.Hops[1].Backend != backends[ref("a")] || d.Hops[1].AuthDomain != "two.example" || d.Hops[1].By != d.Rules.Authorities[1] {
		t.Errorf("%d hops: %+v", n, d.Hops)
	}
	other := must(New(block("b"), backends, &Shared{}))
	for _, b := range backends {
		b.Retire() // a reload has removed them
	}
	d.Acquire()
	d.Retire()
	if n := backends[ref("a")].Holders(); n != 2 || len(ended) != 0 {
		t.Errorf("%d hold the backend, %d have ended", n, len(ended))
	}
	d.Release()
	if b := <-ended; b != backends[ref("a")] || len(ended) != 0 {
		t.Errorf("%v ended", b)
	}
	other.Retire()
	if b := <-ended; b != backends[ref("b")] {
		t.Errorf("%v ended", b)
	}
}

// TestNewFails: a domain that cannot be made holds no backend.
func TestNewFails(t *testing.T) {
	backends, _ := newBackends(t, "a")
	bad := []auth.Secret{auth.NewSecret("")}
	for name, change := range map[string]func(*config.Domain){
		"jsxc": func(d *config.Domain) { d.JSXC = &config.JSXCToken{Secrets: bad} },
		"totp": func(d *config.Domain) { d.TOTP = &config.TOTPToken{Seed: auth.NewSecret("!"), Secrets: bad} },
	} {
		cfg := block("a")
		change(&cfg)
		if d, err := New(cfg, backends, &Shared{}); err == nil || d != nil {
			t.Errorf("%s: made", name)
		}
		if n := backends[ref("a")].Holders(); n != 0 {
			t.Errorf("%s: %d hold the backend", name, n)
		}
	}
}

// TestTokens: only a domain with tokens takes a password for one.
func TestTokens(t *testing.T) {
	backends, _ := newBackends(t, "a")
	d := must(New(block("a"), backends, &Shared{}))
	defer d.Retire()
	if d.HasTokens() || d.MayBeToken(auth.NewSecret("good")) {
		t.Error("a domain without tokens has some")
	}
	cfg := block("a")
	cfg.JSXC = &config.JSXCToken{Secrets: []auth.Secret{auth.NewSecret("0123456789abcdef0123456789abcdef")}}
	with := must(New(cfg, backends, &Shared{}))
	defer with.Retire()
	issued, err := with.JSXC.Issue(auth.Identity{User: "joe", Domain: "dom.example"}, time.Now().Add(time.Hour))
	if err != nil || !with.HasTokens() || !with.MayBeToken(issued) || with.MayBeToken(auth.NewSecret("good")) || d.MayBeToken(issued) {
		t.Errorf("tokens are not told from passwords: %v", err)
	}
}
