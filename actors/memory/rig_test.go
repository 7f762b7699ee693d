package memory

import (
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
	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/slots"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
)

// gatedStore is a store; a test holds up its reads of records.
type gatedStore struct {
	store.Store
	reads atomic.Int64
	panic atomic.Bool
	fails atomic.Bool // to write
	gate  atomic.Pointer[gate]
}

// gate holds reads up after they have read.
type gate struct{ reached, release chan struct{} }

// hold has the reads that follow wait until release is closed.
func (s *gatedStore) hold() *gate {
	g := &gate{make(chan struct{}, 1024), make(chan struct{})}
	s.gate.Store(g)
	return g
}

func (s *gatedStore) Apply(ops []store.Op, sync bool) error {
	if s.fails.Load() {
		return errors.New("injected")
	}
	return s.Store.Apply(ops, sync)
}

func (s *gatedStore) Get(key []byte) ([]byte, error) {
	value, err := s.Store.Get(key)
	s.reads.Add(1)
	if g := s.gate.Load(); g != nil {
		g.reached <- struct{}{}
		<-g.release
	}
	if s.panic.Load() {
		panic("injected")
	}
	return value, err
}

// passwordBackend accepts one password at a time.
type passwordBackend struct {
	password atomic.Pointer[string]
	asked    atomic.Int64
	down     atomic.Bool
	// classes, if set, are what it says of the domains of its questions, whatever the password.
	classes map[string]backend.Class
}

func (b *passwordBackend) set(password string) { b.password.Store(&password) }

func (b *passwordBackend) Ask(_ context.Context, q backend.Query) backend.Result {
	b.asked.Add(1)
	if b.down.Load() {
		return backend.Result{Class: backend.Outage}
	}
	if class, ok := b.classes[q.Domain]; ok {
		return backend.Result{Class: class}
	}
	if q.Op == auth.OpAuth && q.Secret.Reveal() != *b.password.Load() {
		return backend.Result{Class: backend.Refused}
	}
	return backend.Result{Class: backend.Accepted}
}

func (*passwordBackend) Close() error { return nil }

// rig is the shards of a process with one domain, dom.example, and with a store if that keeps its
// users on disk. It is their Directory.
type rig struct {
	*Shards
	t       *testing.T
	fake    *passwordBackend
	backend map[config.BackendRef]*slots.Backend
	disk    *gatedStore
	log     *syncBuffer
	router  *supervise.RefCount

	mu      sync.Mutex
	current map[string]*domain.Domain // by name
	panics  func(message any) bool
}

// libraryGoroutines are those of the actor library that end by themselves a second after a dead
// letter.
var libraryGoroutines = []goleak.Option{
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewThrottle.func1.1"), // not inlined
}

var backendRef = config.BackendRef{Kind: "json", Name: "fake"}

func newRig(t *testing.T, storage config.Storage) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	r := &rig{t: t, fake: &passwordBackend{}, log: &syncBuffer{}, current: make(map[string]*domain.Domain), router: supervise.NewRefCount(func() {})}
	r.fake.set("good")
	log := slog.New(slog.NewTextHandler(r.log, nil))
	system := supervise.NewSystem(supervise.Options{Log: log, Inject: r.inject})
	e := env.New(context.Background(), system, log, time.Now)
	var behind *store.WriteBehind
	if storage == config.StorageDisk {
		pebble, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r.disk = &gatedStore{Store: pebble}
		behind = store.NewWriteBehind(r.disk, func(error) {})
		e.SetDisk(behind)
	}
	var err error
	if r.Shards, err = Start(e, 1, r); err != nil {
		t.Fatal(err)
	}
	b, err := slots.New(e, config.Backend{BackendRef: backendRef, Slots: 8, Queue: 64, BreakerFailures: 1000}, r.fake, func(*slots.Backend) {})
	if err != nil {
		t.Fatal(err)
	}
	r.backend = map[config.BackendRef]*slots.Backend{backendRef: b}
	r.serve("dom.example", storage, nil)
	t.Cleanup(func() {
		deadline := time.Now().Add(20 * time.Second)
		for r.router.Held() && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if n := r.router.Holders(); n != 0 {
			t.Errorf("%d calls or tasks are left", n)
		}
		r.Hashing.Close(context.Background())
		r.Stop()
		b.Close(time.Minute)
		system.Close()
		if behind != nil {
			behind.Close()
			_ = r.disk.Close()
		}
		goleak.VerifyNone(t, append(libraryGoroutines, before)...)
	})
	return r
}

// block is the block of a domain.
func block(name string, storage config.Storage) config.Domain {
	return config.Domain{Name: name, Backends: []config.BackendRef{backendRef}, Cache: config.Cache{
		Storage: storage, QueryTTL: time.Hour, VerifyTTL: 24 * time.Hour, OutageTTL: 168 * time.Hour,
		RefusedTTL: 5 * time.Minute, ExistsTTL: time.Hour, AbsentTTL: time.Minute, BcryptCost: 4, Secrets: 4,
	}}
}

// serve puts a value of a block in force for the names given, or for its own.
func (r *rig) serve(name string, storage config.Storage, change func(*config.Domain), names ...string) *domain.Domain {
	r.t.Helper()
	cfg := block(name, storage)
	if change != nil {
		change(&cfg)
	}
	d, err := domain.New(cfg, r.backend, &domain.Shared{Name: name})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(names) == 0 {
		names = []string{name}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range names {
		r.current[n] = d
	}
	return d
}

// Current implements Directory.
func (r *rig) Current(name string) *domain.Domain {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current[name]
}

// Served implements Directory.
func (r *rig) Served(block string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.current {
		if d.Name == block {
			return true
		}
	}
	return false
}

// Reroute implements Directory.
func (r *rig) Reroute(c *call.Call) { c.Unavailable(auth.SourceConfig) }

func (r *rig) inject(_ string, message any) {
	r.mu.Lock()
	panics := r.panics != nil && r.panics(message)
	r.mu.Unlock()
	if panics {
		panic("injected")
	}
}

// failOnce has the shard panic before the next message of which is holds.
func (r *rig) failOnce(is func(message any) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.panics = func(message any) bool {
		if !is(message) {
			return false
		}
		r.panics = nil
		return true
	}
}

// asker closes its channel when the answer is there.
type asker chan struct{}

// Answered implements call.Asker.
func (a asker) Answered(*call.Call) { close(a) }

func account(user string) auth.Identity { return auth.Identity{User: user, Domain: "dom.example"} }

// login sends a login to the shard.
func (r *rig) login(id auth.Identity, password string) *call.Call {
	secret := auth.NewSecret(password)
	now := time.Now()
	c := &call.Call{
		Req: auth.Request{Op: auth.OpAuth, User: id.User, Domain: id.Domain, Secret: secret}, ID: id, Name: id.User,
		Key: r.Key(id, secret, false), Hash: r.Hash(id), Received: now, Deadline: now.Add(time.Minute),
		Trace: call.NewTrace(), Asker: make(asker), Domain: r.Current(id.Domain),
	}
	r.router.Acquire()
	c.Admit(r.router)
	r.Ref(c.Hash).Send(c)
	return c
}

// want waits for the answer of a call and checks it.
func (r *rig) want(c *call.Call, verdict auth.Verdict, source auth.Source) {
	r.t.Helper()
	select {
	case <-c.Asker.(asker):
	case <-time.After(time.Minute):
		r.t.Fatalf("no answer; its way: %+v", c.Trace.Steps())
	}
	if a, _ := c.Result(); a.Verdict != verdict || a.Source != source {
		r.t.Errorf("%v: %v (%v), want %v (%v); its way: %+v", c.ID, a.Verdict, a.Source, verdict, source, c.Trace.Steps())
	}
}

// vouching is the authority of every backend of a rig.
func vouching() auth.AuthorityID { return (&config.Backend{BackendRef: backendRef}).Authority("").ID }

// idle waits until nothing is under way.
func (r *rig) idle() {
	r.t.Helper()
	eventually(r.t, "the end of all tasks", func() bool { return !r.router.Held() })
}

// in runs do in the shard.
func (r *rig) in(do func(*shard)) {
	r.t.Helper()
	if err := supervise.Ask(r.t.Context(), r.Ref(0), do); err != nil {
		r.t.Fatal(err)
	}
}

// restarted waits until the shard has been restarted and takes requests again.
func (r *rig) restarted() {
	r.t.Helper()
	eventually(r.t, "the restart", func() bool {
		return r.Ref(0).Restarts() == 1 && supervise.Ask(r.t.Context(), r.Ref(0), func(*shard) {}) == nil
	})
}

// stored puts the record of a user with a password on disk.
func (r *rig) stored(id auth.Identity, record []byte) {
	r.t.Helper()
	if err := r.disk.Apply([]store.Op{{Key: cache.RecordKey(id), Value: record}}, true); err != nil {
		r.t.Fatal(err)
	}
}

// onDisk reports whether there is a record of a user.
func (r *rig) onDisk(id auth.Identity) bool {
	_, err := r.env.Disk().Get(cache.RecordKey(id))
	return err == nil
}

// learn has a user log in, and waits for the stored hash.
func (r *rig) learn(id auth.Identity) {
	r.t.Helper()
	r.want(r.login(id, "good"), auth.Allow, auth.SourceBackend)
	r.idle()
}

// logged reports whether the log holds a text.
func (r *rig) logged(text string) bool { return strings.Contains(r.log.String(), text) }

// count is how often the log holds a text.
func (r *rig) count(text string) int { return strings.Count(r.log.String(), text) }

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
