package rosters

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/rosters/rostertest"
	"postern/actors/slots"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// askFunc is a backend. Questions that it does not know get a zero Result.
type askFunc func(context.Context, backend.Query) backend.Result

func (f askFunc) Ask(ctx context.Context, q backend.Query) backend.Result { return f(ctx, q) }

func (f askFunc) Close() error { return nil }

// setup changes what a rig is made of.
type setup struct {
	domain config.Domain
	asks   []askFunc // the domain's backends, in order
	slots  int
	// failures open the breaker of a backend.
	failures int
	level    slog.Level
	inject   func(actor string, message any)
}

// rig is the shared rosters of one domain block, dom.example unless a test changes it, with a
// fake ejabberd and fake backends.
type rig struct {
	*Roster
	t        testing.TB
	ejabberd *rostertest.Ejabberd
	backends []*slots.Backend
	domain   atomic.Pointer[domain.Domain]
	shared   *domain.Shared
	log      *syncBuffer
	ahead    atomic.Int64 // of time, in nanoseconds
	stop     func()       // once, at the latest at the test's end
}

// libraryGoroutines are those of the actor library that end by themselves a second after a dead
// letter.
var libraryGoroutines = []goleak.Option{
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewThrottle.func1.1"), // not inlined
}

// newRig starts everything and stops it at the test's end, when no goroutine may be left.
func newRig(t testing.TB, change func(*setup)) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	r := &rig{t: t, ejabberd: rostertest.NewEjabberd(), log: &syncBuffer{}}
	s := &setup{asks: []askFunc{teams(new(atomic.Int64), 3)}, slots: 8, failures: 1000}
	s.domain = config.Domain{Name: "dom.example", Roster: &config.Roster{
		Kind: config.RosterEjabberd, API: r.ejabberd.API(), Window: 20 * time.Millisecond, MinInterval: time.Minute, Timeout: time.Minute,
	}}
	if change != nil {
		change(s)
	}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: s.level}))
	disk, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	behind := store.NewWriteBehind(disk, func(error) {})
	ctx, cancel := context.WithCancel(context.Background())
	system := supervise.NewSystem(supervise.Options{Log: log, Inject: s.inject})
	e := env.New(ctx, system, log, r.now)
	e.SetDisk(behind)

	made := map[config.BackendRef]*slots.Backend{}
	for i, ask := range s.asks {
		ref := config.BackendRef{Kind: "json", Name: fmt.Sprint("fake", i)}
		cfg := config.Backend{BackendRef: ref, Slots: s.slots, Queue: 64, BreakerFailures: s.failures, BreakerCooldown: time.Second}
		b, err := slots.New(e, cfg, ask, func(*slots.Backend) {})
		if err != nil {
			t.Fatal(err)
		}
		made[ref], r.backends = b, append(r.backends, b)
		s.domain.Backends = append(s.domain.Backends, ref)
	}
	if r.Roster, err = Start(e, "domain:"+s.domain.Name+"/roster", s.domain.Name, r.domain.Load); err != nil {
		t.Fatal(err)
	}
	r.shared = &domain.Shared{Name: s.domain.Name, Rosters: r.Ref}
	d, err := domain.New(s.domain, made, r.shared)
	if err != nil {
		t.Fatal(err)
	}
	r.domain.Store(d)
	r.stop = sync.OnceFunc(func() {
		cancel()
		r.Ref.Stop()
		<-r.Ref.Stopped()
		r.Close(time.Minute)
		r.domain.Load().Retire()
		for _, b := range r.backends {
			b.Close(time.Minute)
		}
		system.Close()
		behind.Close()
		_ = disk.Close()
		r.ejabberd.Close()
		goleak.VerifyNone(t, append(libraryGoroutines, before)...)
	})
	t.Cleanup(r.stop)
	return r
}

// newForeignRig is a rig for every domain, at an ejabberd that serves none below mail.example.
func newForeignRig(t testing.TB, change func(*setup)) *rig {
	t.Helper()
	r := newRig(t, func(s *setup) {
		s.domain.Name, s.level = "*", slog.LevelDebug
		if change != nil {
			change(s)
		}
	})
	r.ejabberd.Unserve("mail.example")
	return r
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }

// login notes a login, as an accepted password does.
func (r *rig) login(user, domain string) {
	r.domain.Load().NoteLogin(auth.Identity{User: user, Domain: domain})
}

// logins notes several, in their order.
func (r *rig) logins(ids ...auth.Identity) {
	for _, id := range ids {
		r.login(id.User, id.Domain)
	}
}

// password puts a password to the first backend and waits for the answer.
func (r *rig) password(user, password string) backend.Result {
	r.t.Helper()
	answer := make(chan backend.Result, 1)
	r.backends[0].Ref.Send(&slots.Question{
		Query:    backend.Query{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(password)},
		Deadline: time.Now().Add(time.Minute),
		Reply:    func(reply slots.Reply) { answer <- reply.Result },
	})
	return <-answer
}

// endWindow has the collector start a run now.
func (r *rig) endWindow() { r.Ref.Send(&windowOver{}) }

// logged waits for a text in the log.
func (r *rig) logged(text string) {
	r.t.Helper()
	eventually(r.t, "the log line "+text, func() bool { return strings.Contains(r.log.String(), text) })
}

// teamOf waits until the group Team has so many members.
func (r *rig) teamOf(members int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("a group of %d", members), func() bool { return len(r.ejabberd.Group("Team")) == members })
}

// user is an account of dom.example.
func user(name string) auth.Identity { return auth.Identity{User: name, Domain: "dom.example"} }

// teams is a backend that knows every password, and in which each user is in the group Team with
// user0, user1 and so on.
func teams(asked *atomic.Int64, size int) askFunc {
	document := rostertest.Document("Team", size)
	return func(_ context.Context, q backend.Query) backend.Result {
		if q.Op == auth.OpRoster {
			asked.Add(1)
			return backend.Result{Class: backend.Accepted, Body: document}
		}
		return backend.Result{Class: backend.Accepted}
	}
}

// outage is the answer of a backend that cannot be reached.
var outage = backend.Result{Class: backend.Outage, Err: errors.New("connection refused")}

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
	deadline := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(time.Millisecond)
	}
}
