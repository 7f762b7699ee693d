package tokens

import (
	"context"
	"encoding/base32"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"postern/actors/call"
	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/token"
)

// rig is one token worker, whose passwords go to an actor that refuses them.
type rig struct {
	*Workers
	t      *testing.T
	domain *domain.Domain
	ahead  *atomic.Int64 // of time, in nanoseconds
	stop   func()
}

// passwords is where calls go that bring no token.
type passwords struct{}

// Receive implements actor.Actor.
func (passwords) Receive(ctx actor.Context) {
	if c, ok := ctx.Message().(*call.Call); ok {
		c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceBackend})
	}
}

func newRig(t *testing.T, disk store.Store) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	r := &rig{t: t, ahead: new(atomic.Int64)}
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	system := supervise.NewSystem(supervise.Options{Log: log})
	e := env.New(ctx, system, log, func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) })
	var behind *store.WriteBehind
	if disk != nil {
		behind = store.NewWriteBehind(disk, func(error) {})
		e.SetDisk(behind)
	}
	next, err := system.Spawn("passwords", 100, func(*supervise.Ref) actor.Actor { return passwords{} })
	if err != nil {
		t.Fatal(err)
	}
	if r.Workers, err = Start(e, 2, func(uint64) *supervise.Ref { return next }); err != nil {
		t.Fatal(err)
	}
	secret := auth.NewSecret("0123456789abcdef0123456789abcdef")
	seed := base32.StdEncoding.EncodeToString([]byte("01234567890123456789"))
	r.domain = &domain.Domain{Shared: &domain.Shared{Name: "dom.example"}} // which keeps no users on disk
	if r.domain.TOTP, err = token.NewTOTP(auth.NewSecret(seed), []auth.Secret{secret}, token.DefaultNonceDigits); err != nil {
		t.Fatal(err)
	}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		r.Stop()
		next.Stop()
		<-next.Stopped()
		if behind != nil {
			behind.Close()
		}
		system.Close()
		goleak.VerifyNone(t, append(libraryGoroutines, before)...)
	}
	t.Cleanup(r.stop)
	return r
}

// libraryGoroutines are those of the actor library that end by themselves a second after a dead
// letter.
var libraryGoroutines = []goleak.Option{
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewThrottle.func1.1"), // not inlined
}

var joe = auth.Identity{User: "joe", Domain: "dom.example"}

// issue makes a single-use token for now.
func (r *rig) issue() auth.Secret {
	r.t.Helper()
	secret, err := r.domain.TOTP.Issue(joe, r.env.Clock())
	if err != nil {
		r.t.Fatal(err)
	}
	return secret
}

// asker closes its channel when the answer is there.
type asker chan struct{}

// Answered implements call.Asker.
func (a asker) Answered(*call.Call) { close(a) }

// want presents a secret to a worker.
func (r *rig) want(worker uint64, secret auth.Secret, verdict auth.Verdict, source auth.Source) {
	r.t.Helper()
	c := &call.Call{
		Req: auth.Request{Op: auth.OpAuth, User: joe.User, Domain: joe.Domain, Secret: secret}, ID: joe, Name: joe.User, Hash: worker,
		Received: time.Now(), Deadline: time.Now().Add(time.Minute), Domain: r.domain, Asker: make(asker),
	}
	r.Ref(worker).Send(c)
	select {
	case <-c.Asker.(asker):
	case <-time.After(time.Minute):
		r.t.Fatal("no answer")
	}
	if a, _ := c.Result(); a.Verdict != verdict || a.Source != source {
		r.t.Errorf("%v (%v), want %v (%v)", a.Verdict, a.Source, verdict, source)
	}
}

func openStore(t *testing.T) store.Store {
	t.Helper()
	disk, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	return disk
}

// nonces counts the stored ones.
func nonces(t *testing.T, disk store.Store) (n int) {
	t.Helper()
	if err := disk.Scan([]byte(store.Nonces), func(_, _ []byte) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRestore: a used token stays used after a restart, at whichever worker, and one that was not
// used is valid still.
func TestRestore(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, disk)
	used := r.issue()
	r.want(0, used, auth.Allow, auth.SourceToken)
	r.want(0, used, auth.Deny, auth.SourceToken)
	r.want(0, auth.NewSecret("good"), auth.Deny, auth.SourceBackend)
	fresh := r.issue()
	r.stop()
	if n := nonces(t, disk); n != 1 {
		t.Fatalf("%d are stored", n)
	}
	r = newRig(t, disk)
	r.Restore()
	r.want(0, used, auth.Deny, auth.SourceToken)
	r.want(1, used, auth.Deny, auth.SourceToken)
	r.want(0, fresh, auth.Allow, auth.SourceToken)
}

// TestPrune removes the stored nonces that do not count any more, and those that make no sense.
func TestPrune(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, disk)
	now := time.Now().Unix()
	put := func(key, value []byte) {
		if err := disk.Apply([]store.Op{{Key: key, Value: value}}, false); err != nil {
			t.Fatal(err)
		}
	}
	for i, expires := range []int64{now - 1, now, now + 60, now + 120} {
		put(nonceRecord(token.Nonce{ID: [32]byte{byte(i)}, Expires: expires}))
	}
	key, value := nonceRecord(token.Nonce{ID: [32]byte{9}, Expires: now + 60})
	put(key[:10], value)                                                         // half an ID
	put(key, value[:5])                                                          // half an expiry
	put(append(key[:len(key)-1:len(key)-1], 1), append([]byte{2}, value[1:]...)) // of another version
	r.Prune()
	if n := nonces(t, disk); n != 2 {
		t.Errorf("%d are left, want 2", n)
	}
	r.ahead.Store(int64(90 * time.Second))
	if r.Prune(); nonces(t, disk) != 1 {
		t.Errorf("%d are left after a while, want 1", nonces(t, disk))
	}
	newRig(t, nil).Prune() // without a store there is nothing to do
}

// failing is a store that cannot be read or written.
type failing struct{ store.Store }

var errDisk = errors.New("disk on fire")

func (failing) Scan([]byte, func(key, value []byte) bool) error { return errDisk }

func (failing) Apply([]store.Op, bool) error { return errDisk }

// TestStoreFails: a token is valid once although it cannot be stored.
func TestStoreFails(t *testing.T) {
	r := newRig(t, failing{openStore(t)})
	r.Restore()
	used := r.issue()
	r.want(0, used, auth.Allow, auth.SourceToken)
	r.want(0, used, auth.Deny, auth.SourceToken)
}

// TestFullMemory: a token that cannot be remembered is a temporary failure, and one that was used
// stays used.
func TestFullMemory(t *testing.T) {
	r := newRig(t, nil)
	r.memory[0].used = token.NewReplay(1)
	used := r.issue()
	r.want(0, used, auth.Allow, auth.SourceToken)
	r.want(0, r.issue(), auth.Unavailable, auth.SourceOverload)
	r.want(0, used, auth.Deny, auth.SourceToken)
}

// TestNonceRecord: what is stored of a nonce is read again.
func TestNonceRecord(t *testing.T) {
	want := token.Nonce{ID: [32]byte{1, 2, 3}, Expires: 1 << 40}
	if got, ok := nonceOf(nonceRecord(want)); !ok || got != want {
		t.Errorf("%+v, %t", got, ok)
	}
}
