package slots

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/limit"
)

// fake is a backend that accepts all, unless ask says otherwise.
type fake struct {
	ask    func(context.Context, backend.Query) backend.Result
	asked  atomic.Int64
	closed atomic.Bool
	within atomic.Int64 // questions under way when it was closed
	now    atomic.Int64
	screen backend.Screening
}

func (f *fake) Screen(backend.Query) backend.Screening { return f.screen }

func (f *fake) Ask(ctx context.Context, q backend.Query) backend.Result {
	f.asked.Add(1)
	f.now.Add(1)
	defer f.now.Add(-1)
	if f.ask != nil {
		return f.ask(ctx, q)
	}
	return backend.Result{Class: backend.Accepted}
}

func (f *fake) Close() error {
	f.within.Store(f.now.Load())
	f.closed.Store(true)
	return nil
}

// rig is one backend.
type rig struct {
	*Backend
	t       *testing.T
	fake    *fake
	release chan struct{} // lets held questions end, one each
	panics  atomic.Bool   // once, at the next expire
}

// newRig starts a backend; if held, its questions wait for release.
func newRig(t *testing.T, held bool, cfg config.Backend) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	r := &rig{t: t, fake: &fake{}, release: make(chan struct{})}
	if held {
		r.fake.ask = func(ctx context.Context, _ backend.Query) backend.Result {
			select {
			case <-r.release:
				return backend.Result{Class: backend.Accepted}
			case <-ctx.Done():
				return backend.Result{Class: backend.Outage, Err: ctx.Err()}
			}
		}
	}
	log := slog.New(slog.DiscardHandler)
	system := supervise.NewSystem(supervise.Options{Log: log, Inject: func(_ string, m any) {
		if _, ok := m.(*expire); ok && r.panics.CompareAndSwap(true, false) {
			panic("injected")
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	e := env.New(ctx, system, log, time.Now)
	cfg.BackendRef = config.BackendRef{Kind: "json", Name: "fake"}
	var err error
	if r.Backend, err = New(e, cfg, r.fake, func(*Backend) {}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if !r.fake.closed.Load() {
			r.Close(time.Minute)
		}
		system.Close()
		goleak.VerifyNone(t, append(libraryGoroutines, before)...)
	})
	return r
}

// libraryGoroutines are those of the actor library that end by themselves a second after a dead
// letter.
var libraryGoroutines = []goleak.Option{
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewThrottle.func1.1"), // not inlined
}

// put puts a question, with a minute's time unless change says otherwise.
func (r *rig) put(change func(*Question)) <-chan Reply {
	reply := make(chan Reply, 2)
	q := &Question{
		Query: backend.Query{Op: auth.OpIsUser, User: "joe"}, Deadline: time.Now().Add(time.Minute),
		Reply: func(a Reply) { reply <- a },
	}
	if change != nil {
		change(q)
	}
	r.Ref.Send(q)
	return reply
}

// stands waits until so many slots are busy and so many questions wait.
func (r *rig) stands(busy, waiting int) {
	r.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		c := r.Counts()
		if c.Busy == busy && c.Waiting == waiting && r.Ref.Queued() == 0 && r.fake.now.Load() == int64(busy) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d busy, %d waiting; want %d, %d", c.Busy, c.Waiting, busy, waiting)
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *rig) want(reply <-chan Reply, class backend.Class, source auth.Source, busy bool) {
	r.t.Helper()
	select {
	case a := <-reply:
		if a.Result.Class != class || a.Source != source || a.Busy != busy {
			r.t.Errorf("%v (%v, busy %t, %v), want %v (%v, busy %t)", a.Result.Class, a.Source, a.Busy, a.Result.Err, class, source, busy)
		}
	case <-time.After(time.Minute):
		r.t.Fatal("no reply")
	}
	if len(reply) > 0 {
		r.t.Error("another reply to the same question")
	}
}

// TestQueueBound: questions beyond the slots wait, and those beyond the queue are refused at once.
func TestQueueBound(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 2, Queue: 3})
	var all []<-chan Reply
	for range 5 {
		all = append(all, r.put(nil))
	}
	r.stands(2, 3)
	r.want(r.put(nil), backend.Outage, auth.SourceOverload, true)
	if n := r.fake.asked.Load(); n != 2 {
		t.Errorf("%d are asked at once", n)
	}
	r.release <- struct{}{}
	r.stands(2, 2)
	late := r.put(nil) // there is room again
	r.stands(2, 3)
	for range 5 {
		r.release <- struct{}{}
	}
	for _, reply := range append(all, late) {
		r.want(reply, backend.Accepted, auth.SourceBackend, false)
	}
	r.stands(0, 0)
}

// TestTokensInTheQueue: tokens that are put to the server have the share of their client's address in the queue, as
// passwords have; those that are verified here go by no address.
func TestTokensInTheQueue(t *testing.T) {
	for name, c := range map[string]struct {
		screen backend.Screening
		fits   int // of one address
	}{
		"passwords": {backend.Screening{}, 4}, "opaque": {backend.Screening{Token: true}, 4}, "signed": {backend.Screening{Token: true, Offline: true}, 6},
	} {
		r := newRig(t, true, config.Backend{Slots: 1, Queue: 8})
		r.fake.screen = c.screen
		login := func(from uint64) func(*Question) {
			return func(q *Question) { q.Query.Op, q.Guess.From, q.Guess.Rules = auth.OpAuth, from, &limit.Rules{} }
		}
		all := []<-chan Reply{r.put(login(1))}
		r.stands(1, 0)
		for i := range 6 {
			if i < c.fits {
				all = append(all, r.put(login(1)))
				r.stands(1, i+1)
			} else {
				r.want(r.put(login(1)), backend.Outage, auth.SourceOverload, true)
			}
		}
		all = append(all, r.put(login(2)))
		r.stands(1, c.fits+1)
		for _, reply := range all {
			r.release <- struct{}{}
			r.want(reply, backend.Accepted, auth.SourceBackend, false)
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestDeadlineWhileWaiting: a question ends with its time, in the queue and before, without the
// backend having been asked.
func TestDeadlineWhileWaiting(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 1, Queue: 3})
	held := r.put(nil)
	r.stands(1, 0)
	r.want(r.put(func(q *Question) { q.Deadline = time.Now().Add(-time.Second) }), backend.Outage, auth.SourceDeadline, false)
	patient := r.put(nil)
	r.want(r.put(func(q *Question) { q.Deadline = time.Now().Add(200 * time.Millisecond) }), backend.Outage, auth.SourceDeadline, false)
	r.stands(1, 1)
	close(r.release)
	r.want(held, backend.Accepted, auth.SourceBackend, false)
	r.want(patient, backend.Accepted, auth.SourceBackend, false)
	if n := r.fake.asked.Load(); n != 2 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestDeadlineAtTheBackend: an outage after the end of the time is the deadline's.
func TestDeadlineAtTheBackend(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 1})
	r.want(r.put(func(q *Question) { q.Deadline = time.Now().Add(40 * time.Millisecond) }), backend.Outage, auth.SourceDeadline, false)
	r.stands(0, 0)
}

// TestBreaker: after some outages in a row no question passes, also none that has waited, until a
// probe is answered.
func TestBreaker(t *testing.T) {
	r := newRig(t, false, config.Backend{Slots: 1, Queue: 3, BreakerFailures: 2, BreakerCooldown: 50 * time.Millisecond})
	fault := errors.New("connection refused")
	var up atomic.Bool
	r.fake.ask = func(context.Context, backend.Query) backend.Result {
		if up.Load() {
			return backend.Result{Class: backend.Accepted}
		}
		return backend.Result{Class: backend.Outage, Err: fault}
	}
	for range 2 {
		r.want(r.put(nil), backend.Outage, auth.SourceBackend, false)
	}
	deadline := time.Now().Add(time.Minute)
	for !r.Counts().Open && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if a := <-r.put(nil); !errors.Is(a.Result.Err, errBreaker) || a.Source != auth.SourceBackend {
		t.Errorf("while it is open: %+v", a)
	}
	up.Store(true)
	for r.Counts().Open && time.Now().Before(deadline) {
		<-r.put(nil)
	}
	r.want(r.put(nil), backend.Accepted, auth.SourceBackend, false)
	if c := r.Counts(); c.Open {
		t.Error("it stays open")
	}
}

// TestLittleTimeLeft: a question that has waited and then has no answer in the little time that is left says
// something of the backend only if it has answered nothing else meanwhile.
func TestLittleTimeLeft(t *testing.T) {
	for answers, want := range map[bool]bool{false: true, true: false} {
		r := newRig(t, false, config.Backend{Slots: 1, Queue: 3, BreakerFailures: 2})
		q := func(waited bool) *Question {
			return &Question{Query: backend.Query{Op: auth.OpIsUser}, Reply: func(Reply) {}, waited: waited}
		}
		begun := time.Now()
		if answers {
			r.Ref.Send(&slotDone{q: q(false), class: backend.Refused, begun: begun, took: time.Millisecond})
		}
		for range 2 {
			late := Reply{Result: backend.Result{Class: backend.Outage}, Source: auth.SourceDeadline}
			r.Ref.Send(&slotDone{q: q(true), class: backend.Outage, reply: late, begun: begun, took: time.Millisecond})
		}
		r.settled()
		if open := r.Counts().Open; open != want {
			t.Errorf("another was answered: %t; the breaker is open: %t", answers, open)
		}
	}
}

// TestBackgroundYields: a question that no login waits for leaves half of the slots to those of
// logins, and its outcome is not held against the backend.
func TestBackgroundYields(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 4, Queue: 4, BreakerFailures: 1})
	background := func(q *Question) { q.Background = true }
	var all []<-chan Reply
	for n := range 3 {
		all = append(all, r.put(background))
		r.stands(n+1, 0)
	}
	r.want(r.put(background), backend.Outage, auth.SourceOverload, true)
	all = append(all, r.put(nil))
	r.stands(4, 0)
	close(r.release)
	for _, reply := range all {
		r.want(reply, backend.Accepted, auth.SourceBackend, false)
	}
	r.fake.ask = func(context.Context, backend.Query) backend.Result { return backend.Result{Class: backend.Outage} }
	r.stands(0, 0)
	r.want(r.put(background), backend.Outage, auth.SourceBackend, false)
	r.stands(0, 0)
	if r.Counts().Open {
		t.Error("a background question opened the breaker")
	}
}

// TestAbandoned: what is not waited for any more is not asked when a slot is free.
func TestAbandoned(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 1, Queue: 4})
	held := r.put(nil)
	r.stands(1, 0)
	var given atomic.Bool
	abandoned := r.put(func(q *Question) { q.Abandoned = given.Load })
	wanted := r.put(func(q *Question) { q.Abandoned = func() bool { return false } })
	r.stands(1, 2)
	given.Store(true)
	close(r.release)
	r.want(held, backend.Accepted, auth.SourceBackend, false)
	r.want(abandoned, backend.Outage, auth.SourceDeadline, true)
	r.want(wanted, backend.Accepted, auth.SourceBackend, false)
	if n := r.fake.asked.Load(); n != 2 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestCloseWaits: the backend is closed when no question is under way, but not later than allowed;
// those that wait for a slot, and those that come later, are failed.
func TestCloseWaits(t *testing.T) {
	for name, patient := range map[string]bool{"until the last question ends": true, "for so long": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true, config.Backend{Slots: 1, Queue: 4})
			held := r.put(nil)
			r.stands(1, 0)
			waiting := r.put(nil)
			r.stands(1, 1)
			timeout := 20 * time.Millisecond
			if patient {
				timeout = time.Minute
			}
			closed := make(chan struct{})
			go func() { r.Close(timeout); close(closed) }()
			<-r.Ref.Stopped()
			r.want(waiting, backend.Outage, auth.SourcePanic, true)
			r.want(r.put(nil), backend.Outage, auth.SourceStopping, true)
			if patient {
				if r.fake.closed.Load() {
					t.Error("closed with a question under way")
				}
				close(r.release)
				<-closed
			} else {
				<-closed
				close(r.release)
			}
			r.want(held, backend.Accepted, auth.SourceBackend, false)
			if within := r.fake.within.Load(); !r.fake.closed.Load() || within != map[bool]int64{true: 0, false: 1}[patient] {
				t.Errorf("closed %t, with %d questions under way", r.fake.closed.Load(), within)
			}
		})
	}
}

// TestBackendPanics: a panic of the backend's code is an outage, and frees the slot.
func TestBackendPanics(t *testing.T) {
	r := newRig(t, false, config.Backend{Slots: 1})
	r.fake.ask = func(context.Context, backend.Query) backend.Result { panic("injected") }
	r.want(r.put(nil), backend.Outage, auth.SourceBackend, false)
	r.stands(0, 0)
}

// TestRestartKeepsSlots: what waited at the actor's former life is failed, and what was under way
// keeps its slot.
func TestRestartKeepsSlots(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 1, Queue: 4})
	held := r.put(nil)
	r.stands(1, 0)
	r.panics.Store(true)
	r.want(r.put(nil), backend.Outage, auth.SourcePanic, true)
	for supervise.Ask(t.Context(), r.Ref, func(*limits) {}) != nil { // what is sent before the restart is over is failed
		time.Sleep(time.Millisecond)
	}
	next := r.put(nil)
	r.stands(1, 1)
	close(r.release)
	r.want(held, backend.Accepted, auth.SourceBackend, false)
	r.want(next, backend.Accepted, auth.SourceBackend, false)
	if n := r.Ref.Restarts(); n != 1 {
		t.Errorf("%d restarts", n)
	}
}

// TestSourceOf names why the actor system could not bring an answer about.
func TestSourceOf(t *testing.T) {
	for why, want := range map[supervise.Reason]auth.Source{
		supervise.Panicked: auth.SourcePanic, supervise.Overloaded: auth.SourceOverload, supervise.Stopped: auth.SourceStopping,
	} {
		if got := SourceOf(why); got != want {
			t.Errorf("%v: %v, want %v", why, got, want)
		}
	}
}

// TestExpect: other goroutines learn what a question would have to wait, and when a backend is better
// not asked.
func TestExpect(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 2, MinSlots: 2, Queue: 100, BreakerFailures: 2, BreakerCooldown: time.Hour})
	expect := func(want bool) time.Duration {
		t.Helper()
		r.settled()
		wait, ok := r.Expect()
		if ok != want {
			t.Errorf("expected %v, %t; want %t", wait, ok, want)
		}
		return wait
	}
	expect(true)
	first, second := r.put(nil), r.put(nil)
	r.stands(2, 0)
	expect(false) // nothing shows that it answers, and min_slots are finding out
	r.release <- struct{}{}
	r.stands(1, 0)
	expect(true)
	r.took(time.Second)
	r.settled()
	var all []<-chan Reply
	for range 50 {
		all = append(all, r.put(nil))
	}
	r.stands(2, 49)
	if wait := expect(true); wait < 20*time.Second {
		t.Errorf("behind 49 others %v, when one takes a second", wait)
	}
	close(r.release)
	for _, reply := range append(all, first, second) {
		<-reply
	}
	r.stands(0, 0)
	expect(true)
	r.fake.ask = func(context.Context, backend.Query) backend.Result {
		return backend.Result{Class: backend.Outage, Err: errors.New("connection refused")}
	}
	<-r.put(nil)
	r.stands(0, 0)
	expect(false) // the last answer was an outage
	<-r.put(nil)
	r.stands(0, 0)
	if !r.Counts().Open {
		t.Error("the breaker is closed")
	}
	expect(false)
}

// TestExpectSparesTheBudget: with half of the budget of refusals used up, hashes are compared instead.
func TestExpectSparesTheBudget(t *testing.T) {
	r := newRig(t, false, config.Backend{Slots: 2, MinSlots: 2, Queue: 100, RefusalBudget: 4, RefusalWindow: time.Hour})
	r.fake.ask = func(context.Context, backend.Query) backend.Result { return backend.Result{Class: backend.Refused} }
	for i := range uint64(2) {
		if _, ok := r.Expect(); !ok {
			t.Errorf("after %d refusals it is not to be asked", i)
		}
		<-r.put(func(q *Question) {
			q.Query.Op, q.Query.User = auth.OpAuth, string(rune('a'+i))
			q.Guess.Secret = i + 1
		})
		r.settled()
	}
	if wait, ok := r.Expect(); ok {
		t.Errorf("with half of the budget left: %v, %t", wait, ok)
	}
}

// TestForecastAges: what was seen long ago lets a few questions find out.
func TestForecastAges(t *testing.T) {
	var f forecast
	f.init()
	f.set(time.Second, 20*time.Millisecond, true)
	f.note(backend.Outage, time.Now())
	now := f.now()
	if !f.doubtful(now) || f.fresh(now) {
		t.Error("an outage and a strained budget do not speak against it")
	}
	if f.doubtful(now + int64(doubtFor)) {
		t.Error("they speak against it for ever")
	}
	begun := time.Now()
	f.note(backend.Accepted, begun)
	f.note(backend.Outage, begun) // of one question beside others that are answered
	f.set(time.Second, 20*time.Millisecond, false)
	now = f.now()
	if f.doubtful(now) || !f.fresh(now) {
		t.Error("an answer does not speak for it")
	}
	if f.fresh(now + int64(time.Second)) {
		t.Error("it speaks for it for ever")
	}
	if !f.mayProbe(now) || f.mayProbe(now+1) || !f.mayProbe(now+int64(probeGap)) {
		t.Error("not one question in a while finds out whether it answers")
	}
}
