package actors

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
)

// TestAnotherBackend: a domain that is moved to another backend, by a reload, knows nothing of what the
// former one accepted. A longer list, another order and a block with the same authority change nothing.
func TestAnotherBackend(t *testing.T) {
	const d = "dom.example"
	other := config.BackendRef{Kind: "json", Name: "other"}
	for name, c := range map[string]struct {
		change func(*config.Config)
		kept   bool
	}{
		"another":    {func(c *config.Config) { c.Domains[0].Backends = []config.BackendRef{other} }, false},
		"url":        {func(c *config.Config) { c.Backends[0].URL = "http://elsewhere" }, false},
		"longer":     {func(c *config.Config) { c.Domains[0].Backends = []config.BackendRef{other, rigBackend} }, true},
		"slower":     {func(c *config.Config) { c.Backends[0].Slots = 1 }, true},
		"its domain": {func(c *config.Config) { c.Domains[0].AuthDomains = []string{"other.example"} }, false},
	} {
		for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
			t.Run(name+" "+string(storage), func(t *testing.T) {
				second, disk := &people{all: map[string]string{}}, openStore(t)
				r, p, say := newPeopleRig(t, false, func(s *setup) {
					onDisk(s, disk)
					s.cfg.Domains[0].Cache.Storage = storage
					s.cfg.Backends[0].URL = "http://first"
					s.cfg.Backends = append(s.cfg.Backends, s.cfg.Backends[0])
					s.cfg.Backends[1].BackendRef, s.cfg.Backends[1].URL = other, "http://second"
					s.more = map[string]*fakeBackend{"other": {ask: second.ask}}
				})
				p.set("vera", "old")
				say("1", "auth:vera:"+d+":old", "isuser:vera:"+d)
				if storage == config.StorageDisk {
					r.hashed("vera", 1)
					r.written()
				}
				r.reload(c.change)
				if logged := strings.Contains(r.log.String(), "passwords=1"); logged == c.kept {
					t.Errorf("the log says what was lost: %t", logged)
				}
				p.set("vera", "new")
				p.fail(true)
				second.fail(true)
				if c.kept {
					say("1", "auth:vera:"+d+":old", "isuser:vera:"+d)
					return
				}
				say("0", "auth:vera:"+d+":old", "isuser:vera:"+d)
			})
		}
	}
}

// TestNamedAuthority: a backend that keeps its authority's name keeps what it accepted over a move.
func TestNamedAuthority(t *testing.T) {
	r, p, say := newPeopleRig(t, true, func(s *setup) { s.cfg.Backends[0].AuthorityName = "cloud" })
	p.set("vera", "good")
	say("1", "auth:vera:dom.example:good")
	r.reload(func(c *config.Config) { c.Backends[0].URL = "http://elsewhere" })
	p.fail(true)
	say("1", "auth:vera:dom.example:good")
}

// TestRegisteredAgain: what was known of the users of a domain that is removed is not known to the next
// owner of the name, nor what a former server has accepted to the next one.
func TestRegisteredAgain(t *testing.T) {
	const name = "club.example"
	r, _, disk := newRegisteredRig(t, func(s *setup) { s.cfg.Registry.Cache.Storage = config.StorageDisk }, name)
	known := func() bool { return recordOf(t, disk, auth.Identity{User: "joe", Domain: name}) != nil }
	r.want(r.at(name, "joe", "good"), allow, fromBackend)
	r.kept(name, "joe")
	r.unregister(name)
	if known() {
		t.Error("the record of a user of a removed domain is on disk")
	}
	r.register(registration(name, "good"))
	r.want(r.at(name, "joe", "good"), allow, fromBackend)
	r.kept(name, "joe")
	r.register(registration(name, "new"))
	if !strings.Contains(r.log.String(), "passwords=1") {
		t.Error("the log does not say what the domain has lost")
	}
	r.want(r.at(name, "joe", "good"), deny, fromBackend)
	r.want(r.at(name, "joe", "new"), allow, fromBackend)
	r.kept(name, "joe")
	r.endIdle(name)
	r.register(registration(name, "newest")) // also if the domain is not in use
	if n := strings.Count(r.log.String(), "passwords=1"); n != 2 {
		t.Errorf("the log says %d times what the domain has lost: %s", n, r.log.String())
	}
}

// TestStoreOfBefore: what a store of 0.1.0 knows is valid for the backend at the first start. Where several
// spellings of a user were known, each password is asked about, and none is good in an outage.
func TestStoreOfBefore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(dir, os.DirFS("../internal/cache/testdata/store-0.1.0")); err != nil {
		t.Fatal(err)
	}
	const d = "dom.example"
	for _, start := range []string{"first", "second"} {
		disk, err := cache.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r, p, say := newPeopleRig(t, true, func(s *setup) {
			onDisk(s, disk)
			s.clock.advance(time.Until(time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC)))
			if start == "second" {
				s.cfg.Backends[0].URL = "http://elsewhere"
			}
		})
		p.fail(true)
		if start == "first" {
			say("1", "auth:joe:"+d+":good", "auth:joe:"+d+":app", "auth:Carl:"+d+":good")
		}
		if start == "second" {
			say("0", "auth:joe:"+d+":good")
		}
		say("0", "auth:vera:"+d+":new", "auth:Vera:"+d+":old", "auth:VERA:"+d+":app", "auth:carl:"+d+":good")
		p.fail(false)
		p.set("vera", "new")
		say("1", "auth:vera:"+d+":new", "auth:VERA:"+d+":new")
		say("0", "auth:Vera:"+d+":old")
		r.stop()
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	}
}
