package router

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/actors/call"
	"postern/actors/env"
	"postern/actors/memory"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/registry"
	"postern/internal/store"
)

// fakeBackend accepts one password.
type fakeBackend struct {
	password string
	ask      func(context.Context) // before each answer; nil: nothing
	asked    atomic.Int64
	closed   atomic.Bool
}

func (f *fakeBackend) Ask(ctx context.Context, q backend.Query) backend.Result {
	f.asked.Add(1)
	if f.ask != nil {
		f.ask(ctx)
	}
	if q.Op == auth.OpAuth && q.Secret.Reveal() != f.password {
		return backend.Result{Class: backend.Refused}
	}
	return backend.Result{Class: backend.Accepted}
}

func (f *fakeBackend) Close() error { f.closed.Store(true); return nil }

// gatedStore is a store; a test holds up its reads of registered domains, or has them fail.
type gatedStore struct {
	store.Store
	reads  atomic.Int64
	broken atomic.Bool
	gate   atomic.Pointer[gate]
}

// gate holds reads up after they have read.
type gate struct {
	reached chan struct{} // one for each
	release chan struct{}
}

// hold has the reads that follow wait until release is closed.
func (s *gatedStore) hold() *gate {
	g := &gate{make(chan struct{}, 1024), make(chan struct{})}
	s.gate.Store(g)
	return g
}

func (s *gatedStore) Get(key []byte) ([]byte, error) {
	value, err := s.Store.Get(key)
	if !strings.HasPrefix(string(key), store.Domains) {
		return value, err
	}
	s.reads.Add(1)
	if g := s.gate.Load(); g != nil {
		g.reached <- struct{}{}
		<-g.release
	}
	if s.broken.Load() {
		return nil, errors.New("disk on fire")
	}
	return value, err
}

// rig is a table with its shards.
type rig struct {
	*Table
	t    testing.TB
	cfg  *config.Config
	disk *gatedStore
	log  *syncBuffer
	stop func()

	inject atomic.Pointer[func(actor string, message any)] // called before each message

	mu       sync.Mutex
	made     map[string][]*fakeBackend // by name of the block, or registered domain
	ask      func(context.Context)     // of backends made from now on
	makeFail error
}

// libraryGoroutines are those of the actor library that end by themselves a second after a dead
// letter.
var libraryGoroutines = []goleak.Option{
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewThrottle.func1.1"), // not inlined
}

// newRig starts a table with the domain blocks given, each on a backend of its own whose password is
// the block's name, and with the names registered, whose password is "good".
func newRig(t testing.TB, blocks, registered []string, change func(*config.Config)) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	r := &rig{t: t, log: &syncBuffer{}, made: make(map[string][]*fakeBackend)}
	r.cfg = &config.Config{Registry: config.Registry{Declared: true, Cache: cacheOf(config.StorageDisk)}}
	for _, name := range blocks {
		addBlock(r.cfg, name, config.StorageMemory)
	}
	if change != nil {
		change(r.cfg)
	}
	pebble, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.disk = &gatedStore{Store: pebble}
	for _, name := range registered {
		if _, err := registry.New(pebble).Put(time.Now(), tenancy(name, "good")); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, cancel := context.WithCancel(context.Background())
	system := supervise.NewSystem(supervise.Options{Log: log, Inject: func(actor string, message any) {
		if inject := r.inject.Load(); inject != nil {
			(*inject)(actor, message)
		}
	}})
	e := env.New(ctx, system, log, time.Now)
	r.Table = NewTable(e, r.makeBackend)
	shards, err := memory.Start(e, 2, r.Table)
	if err != nil {
		t.Fatal(err)
	}
	r.Connect(shards, shards.Ref) // no domain has tokens
	behind := store.NewWriteBehind(r.disk, shards.StoreWritten)
	e.SetDisk(behind)
	if err := r.Start(r.cfg); err != nil {
		t.Fatal(err)
	}
	r.stop = sync.OnceFunc(func() {
		cancel()
		r.changing.Lock()
		defer r.changing.Unlock()
		shards.Hashing.Close(context.Background())
		r.Table.Stop()
		shards.Stop()
		behind.Close()
		_ = pebble.Close()
		system.Close()
		goleak.VerifyNone(t, append(libraryGoroutines, before)...)
		r.mu.Lock()
		defer r.mu.Unlock()
		for name, list := range r.made {
			for _, f := range list {
				if !f.closed.Load() {
					t.Errorf("a backend of %s was not closed", name)
				}
			}
		}
	})
	t.Cleanup(r.stop)
	return r
}

func cacheOf(storage config.Storage) config.Cache {
	return config.Cache{
		Storage: storage, QueryTTL: time.Hour, VerifyTTL: 24 * time.Hour, OutageTTL: 168 * time.Hour,
		RefusedTTL: 5 * time.Minute, ExistsTTL: time.Hour, AbsentTTL: time.Minute,
		BcryptCost: 4, Secrets: 4, HotEntries: 10000,
	}
}

// addBlock adds a domain block and its backend; the password is the name.
func addBlock(cfg *config.Config, name string, storage config.Storage) {
	ref := config.BackendRef{Kind: "json", Name: name}
	cfg.Backends = append(cfg.Backends, config.Backend{BackendRef: ref, URL: "http://" + name, Slots: 8, Queue: 64, BreakerFailures: 1000})
	cfg.Domains = append(cfg.Domains, config.Domain{Name: name, Backends: []config.BackendRef{ref}, Cache: cacheOf(storage)})
}

func tenancy(name, password string) registry.Record {
	return registry.Record{Domain: name, Kind: registry.KindJSON, URL: "http://" + password}
}

func (r *rig) makeBackend(c config.Backend) (backend.Backend, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.makeFail != nil {
		return nil, r.makeFail
	}
	f := &fakeBackend{password: strings.TrimPrefix(c.URL, "http://"), ask: r.ask}
	r.made[c.Name] = append(r.made[c.Name], f)
	return f, nil
}

// open is how many backends of a name are in use.
func (r *rig) open(name string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.made[name] {
		if !f.closed.Load() {
			n++
		}
	}
	return n
}

// asker closes its channel when the answer is there.
type asker chan struct{}

// Answered implements call.Asker.
func (a asker) Answered(*call.Call) { close(a) }

// login sends a login on its way, without waiting for its answer.
func (r *rig) login(domain, user, password string) *call.Call {
	c := r.newCall(domain, user, password)
	r.Dispatch(nil, c)
	return c
}

func (r *rig) newCall(domain, user, password string) *call.Call {
	id := auth.Identity{User: user, Domain: domain}
	secret := auth.NewSecret(password)
	now := time.Now()
	return &call.Call{
		Req: auth.Request{Op: auth.OpAuth, User: user, Domain: domain, Secret: secret}, ID: id, Name: id.User,
		Key: r.shards.Key(id, secret, false), Hash: r.shards.Hash(id), Received: now, Deadline: now.Add(time.Minute),
		Trace: call.NewTrace(), Asker: make(asker),
	}
}

// answer waits for the answer of a call.
func (r *rig) answer(c *call.Call) auth.Answer {
	r.t.Helper()
	select {
	case <-c.Asker.(asker):
	case <-time.After(time.Minute):
		r.t.Fatalf("no answer for %v; its way: %+v", c.ID, c.Trace.Steps())
	}
	a, _ := c.Result()
	return a
}

// want checks an answer.
func (r *rig) want(c *call.Call, verdict auth.Verdict, source auth.Source) {
	r.t.Helper()
	if a := r.answer(c); a.Verdict != verdict || a.Source != source {
		r.t.Errorf("%v: %v (%v), want %v (%v); its way: %+v", c.ID, a.Verdict, a.Source, verdict, source, c.Trace.Steps())
	}
}

// register writes a record and puts it into effect.
func (r *rig) register(records ...registry.Record) error {
	return r.ChangeRegistry(func(reg *registry.Registry) ([]registry.Record, []string, error) {
		put, err := reg.Put(time.Now(), records...)
		return put, nil, err
	})
}

// unregister removes a domain.
func (r *rig) unregister(name string) error {
	return r.ChangeRegistry(func(reg *registry.Registry) ([]registry.Record, []string, error) {
		return nil, []string{name}, reg.Delete(name)
	})
}

// reload puts another configuration in force.
func (r *rig) reload(change func(*config.Config)) {
	r.t.Helper()
	was := r.Config()
	next := *was
	next.Domains = append([]config.Domain(nil), was.Domains...)
	next.Backends = append([]config.Backend(nil), was.Backends...)
	change(&next)
	err := r.Change(func() error {
		p, err := r.Prepare(&next, config.Diff(was, &next))
		if err != nil {
			return err
		}
		return p.Commit(context.Background(), nil)
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// removeBlock removes a domain block and its backend.
func removeBlock(cfg *config.Config, name string) {
	var domains []config.Domain
	for _, d := range cfg.Domains {
		if d.Name != name {
			domains = append(domains, d)
		}
	}
	var backends []config.Backend
	for _, b := range cfg.Backends {
		if b.Name != name {
			backends = append(backends, b)
		}
	}
	cfg.Domains, cfg.Backends = domains, backends
}

// known is the registered domain of a name.
func (r *rig) known(name string) *registered { return (*r.registered.Load())[name] }

// allRouters are those that have an actor.
func (r *rig) allRouters() (list []*Router) {
	r.Table.mu.Lock()
	defer r.Table.mu.Unlock()
	for one := range r.routers {
		list = append(list, one)
	}
	return list
}

// idle waits until no router has a call or a task.
func (r *rig) idle() {
	r.t.Helper()
	eventually(r.t, "routers without calls", func() bool {
		for _, one := range r.allRouters() {
			if one.calls.Holders() != 0 {
				return false
			}
		}
		return true
	})
}

// syncBuffer is a log that a test reads while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(time.Millisecond)
	}
}
