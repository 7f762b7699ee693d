package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/actors/call"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/registry"
)

// TestSlowRead: calls that come while a registered domain is read wait for it, and it is read once.
func TestSlowRead(t *testing.T) {
	r := newRig(t, []string{"block.example"}, []string{"a.example"}, nil)
	g := r.disk.hold()
	var calls []*call.Call
	for i := range 20 {
		calls = append(calls, r.login("a.example", fmt.Sprint("user", i), "good"))
	}
	<-g.reached
	r.want(r.login("block.example", "joe", "block.example"), auth.Allow, auth.SourceBackend) // waits for no other domain
	if all, live := r.Registered(); all != 1 || live != 1 || len(r.Domains(true)) != 1 {
		t.Errorf("%d of %d are in use, of which %d have a value", live, all, len(r.Domains(true))-1)
	}
	close(g.release)
	for _, c := range calls {
		r.want(c, auth.Allow, auth.SourceBackend)
	}
	if n := r.disk.reads.Load(); n != 1 {
		t.Errorf("it was read %d times", n)
	}
	r.idle()
}

// TestReadsAtOnce: so many registered domains are read at the same time, and the others after them.
func TestReadsAtOnce(t *testing.T) {
	var names []string
	for i := range readsAtOnce + 2 {
		names = append(names, fmt.Sprintf("d%d.example", i))
	}
	r := newRig(t, nil, names, nil)
	g := r.disk.hold()
	var calls []*call.Call
	for _, name := range names {
		calls = append(calls, r.login(name, "joe", "good"))
	}
	for range readsAtOnce {
		<-g.reached
	}
	if n := r.disk.reads.Load(); n != readsAtOnce {
		t.Errorf("%d are read at once", n)
	}
	close(g.release)
	for _, c := range calls {
		r.want(c, auth.Allow, auth.SourceBackend)
	}
}

// TestReadFails: a registered domain that cannot be started is a temporary failure, whatever the
// reason and whether there is a fallback, and works with the next call after that.
func TestReadFails(t *testing.T) {
	for name, fail := range map[string]func(r *rig, failing bool){
		"its record is not read": func(r *rig, failing bool) { r.disk.broken.Store(failing) },
		"its backend is not made": func(r *rig, failing bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.makeFail = nil; failing {
				r.makeFail = errors.New("no certificate")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, []string{"*"}, []string{"a.example"}, nil)
			fail(r, true)
			for range 3 {
				r.want(r.login("a.example", "joe", "good"), auth.Unavailable, auth.SourceConfig)
			}
			r.want(r.login("other.example", "joe", "*"), auth.Allow, auth.SourceBackend)
			eventually(t, "the end of its routers", func() bool { return len(r.allRouters()) == 1 })
			if _, live := r.Registered(); live != 0 {
				t.Errorf("%d are in use", live)
			}
			if n := strings.Count(r.log.String(), "registered domain cannot be started"); n != 1 {
				t.Errorf("the log says so %d times", n)
			}
			fail(r, false)
			r.want(r.login("a.example", "joe", "good"), auth.Allow, auth.SourceBackend)
			r.idle()
		})
	}
}

// TestChangesWhileRead: a call that waits for a registered domain is answered by what is in force
// once it has been read.
func TestChangesWhileRead(t *testing.T) {
	for name, c := range map[string]struct {
		fallback bool
		change   func(r *rig)
		password string
		verdict  auth.Verdict
		source   auth.Source
		reads    int64
		live     int
	}{
		"nothing":            {false, func(*rig) {}, "good", auth.Allow, auth.SourceBackend, 1, 1},
		"its record":         {false, func(r *rig) { r.must(r.register(tenancy("a.example", "new"))) }, "new", auth.Allow, auth.SourceBackend, 2, 1},
		"the former one":     {false, func(r *rig) { r.must(r.register(tenancy("a.example", "new"))) }, "good", auth.Deny, auth.SourceBackend, 2, 1},
		"removed":            {false, func(r *rig) { r.must(r.unregister("a.example")) }, "good", auth.Deny, auth.SourceUnknownDomain, 1, 0},
		"removed, fallback":  {true, func(r *rig) { r.must(r.unregister("a.example")) }, "*", auth.Allow, auth.SourceBackend, 1, 0},
		"another's record":   {false, func(r *rig) { r.must(r.register(tenancy("b.example", "new"))) }, "good", auth.Allow, auth.SourceBackend, 1, 1},
		"the rules":          {false, func(r *rig) { r.reload(func(c *config.Config) { c.Registry.Cache.HotEntries++ }) }, "good", auth.Allow, auth.SourceBackend, 2, 1},
		"a block stands":     {false, func(r *rig) { r.reload(ownBlock) }, "a.example", auth.Allow, auth.SourceBackend, 1, 0},
		"the block is gone":  {false, func(r *rig) { r.reload(ownBlock); r.reload(noBlock) }, "good", auth.Allow, auth.SourceBackend, 2, 1},
		"registered anew":    {false, anew, "new", auth.Allow, auth.SourceBackend, 2, 1},
		"registered anew, *": {true, anew, "new", auth.Allow, auth.SourceBackend, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var blocks []string
			if c.fallback {
				blocks = []string{"*"}
			}
			r := newRig(t, blocks, []string{"a.example"}, nil)
			g := r.disk.hold()
			waiting := r.login("a.example", "joe", c.password)
			<-g.reached
			r.disk.gate.Store(nil) // the one that is under way waits; those of the change do not
			reads := r.disk.reads.Load()
			c.change(r)
			r.disk.reads.Store(reads) // those of the change itself do not count
			close(g.release)
			r.want(waiting, c.verdict, c.source)
			if n := r.disk.reads.Load(); n != c.reads {
				t.Errorf("it was read %d times, want %d", n, c.reads)
			}
			if _, live := r.Registered(); live != c.live {
				t.Errorf("%d are in use, want %d", live, c.live)
			}
			r.want(r.login("a.example", "jane", c.password), c.verdict, c.source)
			r.idle()
		})
	}
}

func ownBlock(c *config.Config) { addBlock(c, "a.example", config.StorageMemory) }

func noBlock(c *config.Config) { removeBlock(c, "a.example") }

// anew removes a registered domain and registers it again, with another password.
func anew(r *rig) {
	r.must(r.unregister("a.example"))
	r.must(r.register(tenancy("a.example", "new")))
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestChangeFails: what could not be written or put into effect changes nothing.
func TestChangeFails(t *testing.T) {
	r := newRig(t, nil, []string{"a.example"}, nil)
	fault := errors.New("disk full")
	err := r.ChangeRegistry(func(*registry.Registry) ([]registry.Record, []string, error) {
		return nil, []string{"a.example"}, fault
	})
	if !errors.Is(err, fault) || !r.Serves("a.example") {
		t.Errorf("%v; served: %t", err, r.Serves("a.example"))
	}
	r.want(r.login("a.example", "joe", "good"), auth.Allow, auth.SourceBackend)
	r.mu.Lock()
	r.makeFail = errors.New("no certificate")
	r.mu.Unlock()
	if err := r.register(tenancy("a.example", "new")); err == nil || !strings.Contains(err.Error(), "goes on as it was") {
		t.Errorf("a record without a backend: %v", err)
	}
	r.want(r.login("a.example", "jane", "good"), auth.Allow, auth.SourceBackend)
	r.idle()
}

// used sets when a registered domain was last used, counted from now.
func (r *rig) used(name string, since time.Duration) {
	r.known(name).router.Load().used.Store(time.Now().Add(-since).UnixNano())
}

// live lists which of the names are in use.
func (r *rig) inUse(names ...string) (list []string) {
	for _, name := range names {
		if r.Served(name) {
			list = append(list, name)
		}
	}
	return list
}

// TestTidy: idle domains end, and if there are more than may be, those that were used the longest ago.
func TestTidy(t *testing.T) {
	names := []string{"a.example", "b.example", "c.example", "d.example"}
	for name, c := range map[string]struct {
		idle    time.Duration
		maxLive int
		want    string
	}{
		"neither bound":     {0, 0, "a b c d"},
		"idle":              {150 * time.Minute, 0, "a b"},
		"idle, none":        {time.Hour * 24, 0, "a b c d"},
		"too many":          {0, 3, "a b c"},
		"far too many":      {0, 1, "a"},
		"room":              {0, 4, "a b c d"},
		"idle and too many": {210 * time.Minute, 2, "a b"},
		"idle before many":  {90 * time.Minute, 3, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, names, func(cfg *config.Config) { cfg.Registry.Idle, cfg.Registry.MaxLive = c.idle, c.maxLive })
			for i, name := range names {
				r.want(r.login(name, "joe", "good"), auth.Allow, auth.SourceBackend)
				r.idle()
				r.used(name, time.Duration(i+1)*time.Hour)
			}
			r.Tidy()
			got := strings.ReplaceAll(strings.Join(r.inUse(names...), " "), ".example", "")
			if got != c.want {
				t.Errorf("%q are in use, want %q", got, c.want)
			}
			_, live := r.Registered()
			eventually(t, "the end of the others", func() bool {
				open := 0
				for _, name := range names {
					open += r.open(name)
				}
				return len(r.allRouters()) == live && open == live
			})
			for _, name := range names { // all of them come back
				r.want(r.login(name, "jane", "good"), auth.Allow, auth.SourceBackend)
			}
		})
	}
}

// TestTenantIdleAfterClockJump: a domain that was asked for before the clock was set back falls
// asleep all the same.
func TestTenantIdleAfterClockJump(t *testing.T) {
	r := newRig(t, nil, []string{"a.example"}, func(c *config.Config) { c.Registry.Idle = 50 * time.Millisecond })
	r.want(r.login("a.example", "joe", "good"), auth.Allow, auth.SourceBackend)
	r.used("a.example", -24*time.Hour)
	eventually(t, "its end", func() bool { r.Tidy(); return r.open("a.example") == 0 })
	if r.Served("a.example") {
		t.Error("it is in use")
	}
}

// TestTidySpares: a domain with a call under way, or that is being read, or that was used after it
// was found idle, stays.
func TestTidySpares(t *testing.T) {
	r := newRig(t, nil, []string{"a.example"}, func(c *config.Config) { c.Registry.Idle = time.Nanosecond })
	g := r.disk.hold()
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.mu.Lock()
	r.ask = func(context.Context) { once.Do(func() { close(reached); <-release }) }
	r.mu.Unlock()
	c := r.login("a.example", "joe", "good")
	<-g.reached
	r.used("a.example", time.Hour)
	if r.Tidy(); !r.Served("a.example") {
		t.Error("a domain was ended while it was read")
	}
	close(g.release)
	<-reached
	r.used("a.example", time.Hour)
	if r.Tidy(); !r.Served("a.example") {
		t.Error("a domain was ended with a call under way")
	}
	close(release)
	r.want(c, auth.Allow, auth.SourceBackend)
	r.idle()
	reg := r.known("a.example")
	one := reg.router.Load()
	r.sleep(reg, one, one.used.Load()-1)
	if !r.Served("a.example") {
		t.Error("a domain was ended that had a call since")
	}
	if r.Tidy(); r.Served("a.example") {
		t.Error("an idle domain stays")
	}
}

// TestRegistryRaces: however registering, removing and calls for a domain meet, each call is
// answered by the domain in one of its states, and at the end no router is left that the table does
// not know.
func TestRegistryRaces(t *testing.T) {
	r := newRig(t, nil, []string{"a.example"}, nil)
	done := make(chan struct{})
	var calls sync.WaitGroup
	for i := range 4 {
		calls.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				a := r.answer(r.login("a.example", fmt.Sprintf("user%d.%d", i, n), "good"))
				if a.Verdict != auth.Allow && a.Source != auth.SourceUnknownDomain {
					t.Errorf("answered %v (%v): %s", a.Verdict, a.Source, r.log)
				}
			}
		})
	}
	for range 20 {
		r.must(r.unregister("a.example"))
		r.must(r.register(tenancy("a.example", "good")))
	}
	r.must(r.unregister("a.example"))
	close(done)
	calls.Wait()
	if all, live := r.Registered(); all != 0 || live != 0 {
		t.Errorf("%d of %d are in use", live, all)
	}
	eventually(t, "the end of every router", func() bool { return len(r.allRouters()) == 0 && r.open("a.example") == 0 })
}

// TestRemovedElsewhere: a domain that another process has removed from the store is an unknown one at the first call,
// though this process has no news of it: the call does not go round.
func TestRemovedElsewhere(t *testing.T) {
	r := newRig(t, nil, []string{"a.example", "b.example"}, nil)
	if err := registry.New(r.disk.Store).Delete("a.example"); err != nil {
		t.Fatal(err)
	}
	if a := r.answer(r.login("a.example", "joe", "good")); a.Source != auth.SourceUnknownDomain {
		t.Errorf("answered %v (%v): %s", a.Verdict, a.Source, r.log)
	}
	if n := r.disk.reads.Load(); n > 2 {
		t.Errorf("the record was read %d times", n)
	}
	if all, _ := r.Registered(); all != 1 {
		t.Errorf("%d domains are registered", all)
	}
	if a := r.answer(r.login("b.example", "joe", "good")); a.Verdict != auth.Allow {
		t.Errorf("the other: %v (%v)", a.Verdict, a.Source)
	}
}

// TestStartBesideRemoval: no router stays that was started for a domain which was registered anew
// meanwhile, so that its record is there: the table would not know of it. The removal comes between
// the start's look at the table and the end of the start, since a lock for which others have waited
// for more than a millisecond is given to them in turn.
func TestStartBesideRemoval(t *testing.T) {
	r := newRig(t, nil, []string{"a.example"}, nil)
	for range 20 {
		reg := &registered{name: "a.example"}
		r.registered.Store(&map[string]*registered{"a.example": reg})
		r.Table.mu.Lock()
		started, removed := make(chan error, 1), make(chan struct{})
		go func() { _, err := r.start(reg); started <- err }()
		time.Sleep(2 * time.Millisecond)
		go func() { // as a change of the registry does
			defer close(removed)
			r.Table.mu.Lock()
			r.registered.Store(&map[string]*registered{"a.example": {name: "a.example"}})
			old := r.unlink(reg)
			r.Table.mu.Unlock()
			for _, one := range old {
				one.retire()
			}
		}()
		time.Sleep(2 * time.Millisecond)
		r.Table.mu.Unlock()
		<-removed
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the end of every router", func() bool { return len(r.allRouters()) == 0 && r.open("a.example") == 0 })
	if _, live := r.Registered(); live != 0 {
		t.Errorf("%d are in use", live)
	}
}
