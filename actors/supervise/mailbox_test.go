package supervise

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

func TestMailboxIsBounded(t *testing.T) {
	r := newRig(t, 3, &carrier{})
	h := send(r, newHold())
	<-h.reached
	var fit []*parcel
	for range 3 {
		fit = append(fit, send(r, new(parcel)))
	}
	if why, n := send(r, new(parcel)).fate(); why != Overloaded || n != 1 {
		t.Errorf("beyond the limit: failed %d times as %v", n, why)
	}
	rest := send(r, new(must)) // a continuation has been admitted before
	if n := r.ref.Queued(); n != 4 {
		t.Errorf("%d messages are queued", n)
	}
	close(h.release)
	for i, p := range append(fit, &rest.parcel) {
		eventually(t, "work", p.handled)
		if _, n := p.fate(); n != 0 {
			t.Errorf("message %d was failed", i)
		}
	}
	late := send(r, new(parcel)) // there is room again
	eventually(t, "work", late.handled)
}

func TestPanicFailsItsRequestOnly(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	h := send(r, newHold())
	<-h.reached
	bad := send(r, &parcel{panics: 1})
	next := send(r, new(parcel))
	close(h.release)
	fellTo(t, "the request that panics", bad, Panicked)
	eventually(t, "the next one", next.handled) // the first restart comes at once
}

func TestSuspendedActorAnswers(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	var queued *parcel
	r.suspend(func() { queued = send(r, new(parcel)) })
	if why, n := send(r, new(parcel)).fate(); why != Panicked || n != 1 {
		t.Errorf("a suspended actor failed a request %d times as %v", n, why)
	}
	rest := send(r, new(must))
	if _, n := rest.fate(); n != 0 {
		t.Error("a suspended actor failed a continuation")
	}
	r.restart()
	eventually(t, "the queue", func() bool { return queued.handled() && rest.handled() })
	late := send(r, new(parcel))
	eventually(t, "a late request", late.handled)
	if n := r.ref.Restarts(); n != 2 || r.Restarts() != n {
		t.Errorf("%d restarts of the actor, %d of the system", n, r.Restarts())
	}
}

func TestStoppedActorFailsItsQueue(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	h := send(r, newHold())
	<-h.reached
	queued, rest := send(r, new(parcel)), send(r, new(must))
	r.ref.Stop()
	fellTo(t, "a request while the actor stops", send(r, new(parcel)), Stopped)
	close(h.release)
	fellTo(t, "a queued request", queued, Stopped)
	fellTo(t, "a queued continuation", &rest.parcel, Stopped)
	r.ends(r.ref)
	fellTo(t, "a request after the end", send(r, new(parcel)), Stopped)
	fellTo(t, "a continuation after the end", &send(r, new(must)).parcel, Stopped)
	send(r, "not a request")
	if n := r.ref.Queued(); n != 0 {
		t.Errorf("%d messages are queued after the end", n)
	}
}

// TestStoppedWhileSuspended: the library never looks again into the queue of an actor that
// stops while it waits for its restart. The restart comes too late then.
func TestStoppedWhileSuspended(t *testing.T) {
	var started atomic.Int64
	r := newRig(t, 10, &carrier{note: func(kind string) {
		if kind == "Started" {
			started.Add(1)
		}
	}})
	var queued *parcel
	r.suspend(func() { queued = send(r, new(parcel)) })
	before := started.Load()
	r.ref.Stop()
	r.ends(r.ref)
	fellTo(t, "a queued request", queued, Stopped)
	r.restart()
	r.idle(r.ref)
	if started.Load() != before {
		t.Error("a stopped actor was restarted")
	}
}

// TestStopBesideRestart: in the library a restart that is queued behind a stop brings the actor
// back.
func TestStopBesideRestart(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	h := send(r, newHold())
	<-h.reached
	r.ref.Stop()
	r.ref.box.PostSystemMessage(&actor.Restart{})
	close(h.release)
	r.ends(r.ref)
	r.idle(r.ref)
	if n := r.ref.Restarts(); n != 0 {
		t.Errorf("%d restarts", n)
	}
}

// TestLateRestart: the restart of an actor that has ended does not hit the one that was started
// under its name meanwhile.
func TestLateRestart(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	r.suspend(func() {})
	r.ref.Stop()
	r.ends(r.ref)
	heir := r.spawn("carrier", 10, &carrier{})
	r.idle(heir)
	r.restart()
	r.ref = heir
	last := send(r, new(parcel))
	eventually(t, "work", last.handled)
	if n := heir.Restarts(); n != 0 {
		t.Errorf("%d restarts", n)
	}
}

func TestDeadLettersAreFailed(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	p := new(parcel)
	r.lib.Root.Send(r.lib.NewLocalPID("nothing"), p)
	fellTo(t, "a request to an unknown PID", p, Stopped)
}

// TestMailboxBeforeStart: the library lets an actor's name be found before the mailbox has a
// dispatcher and before Started is in it. What comes then is handled after Started.
func TestMailboxBeforeStart(t *testing.T) {
	order := make(chan any, 3)
	ref := &Ref{name: "early", system: NewSystem(Options{Log: quietLog})}
	defer ref.system.Close()
	m := &ref.box
	m.init(ref, 10)
	early := new(parcel)
	m.PostUserMessage(early)
	m.RegisterHandlers(invoked(order), nil)
	late := new(parcel)
	m.post(late, new(Runner))
	m.PostSystemMessage(&actor.Started{})
	m.Start()
	if _, ok := (<-order).(*actor.Started); !ok {
		t.Error("Started is not the first message")
	}
	if <-order != any(early) || <-order != any(late) {
		t.Error("the messages are not in order")
	}
}

// invoked is an invoker that reports what it is given.
type invoked chan any

func (i invoked) InvokeSystemMessage(m any) { i <- m }
func (i invoked) InvokeUserMessage(m any)   { i <- m }
func (i invoked) EscalateFailure(_, _ any)  {}

// TestSendWhileSpawning: an actor may send to itself before it is started.
func TestSendWhileSpawning(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	p := new(parcel)
	if _, err := r.Spawn("other", 10, func(self *Ref) actor.Actor {
		self.Send(p)
		return &carrier{}
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "work", p.handled)
}

// vicious is a request with a Fail that panics.
type vicious struct{}

func (vicious) Fail(Reason) { panic(injected("Fail")) }

// TestPanicInFail: the actor survives it, and the rest of its queue is answered.
func TestPanicInFail(t *testing.T) {
	r := newRig(t, 10, &carrier{panics: map[string]bool{"vicious": true}})
	send(r, vicious{})
	next := send(r, new(must))
	eventually(t, "work", next.handled)
	h := send(r, newHold())
	<-h.reached
	send(r, vicious{})
	queued := send(r, new(parcel))
	r.ref.Stop()
	close(h.release)
	fellTo(t, "the request behind", queued, Stopped)
}

// TestGoexit: a goroutine that ends while it runs an actor, as by a test's FailNow, does not
// take the actor with it.
func TestGoexit(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	send(r, func(*carrier) { runtime.Goexit() })
	next := send(r, new(parcel))
	eventually(t, "work on the pool", next.handled)
	r.idle(r.ref)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ref.SendBy(new(Runner), func(*carrier) { runtime.Goexit() })
	}()
	<-done
	next = send(r, new(parcel))
	eventually(t, "work after an inline run", next.handled)
}

// TestOrder: the messages of each sender are handled in order, whichever goroutine runs the actor.
func TestOrder(t *testing.T) {
	const senders, messages = 8, 2000
	r := newRig(t, 1<<20, &carrier{})
	var wg sync.WaitGroup
	last := make([]int, senders) // of the actor
	for s := range senders {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var run Runner
			for i := range messages {
				message := func(*carrier) {
					if last[s] != i {
						t.Errorf("sender %d: message %d came after %d", s, i, last[s])
					}
					last[s] = i + 1
				}
				if s%2 == 0 {
					r.ref.SendBy(&run, message)
				} else {
					r.ref.Send(message)
				}
			}
		}()
	}
	wg.Wait()
	r.idle(r.ref)
	if slices.Min(last) != messages {
		t.Errorf("the last messages were %v", last)
	}
}

func TestQueue(t *testing.T) {
	var q queue
	in, out := 0, 0
	for _, n := range []int{1, -1, 3, -2, 5000, -4000, 600, -1601, 2000, -1500, -500} {
		for range n {
			q.push(in)
			in++
		}
		for range -n {
			if got := q.pop(); got != out {
				t.Fatalf("item %d is %v", out, got)
			}
			out++
		}
		if q.len() != in-out {
			t.Fatalf("%d items, want %d", q.len(), in-out)
		}
	}
	if cap(q.items) > 1024 {
		t.Errorf("an empty queue holds room for %d items", cap(q.items))
	}
}

func TestSpawnNames(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	produce := func(*Ref) actor.Actor { return &carrier{} }
	if _, err := r.Spawn("carrier", 10, produce); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a name in use: %v", err)
	}
	for _, want := range []string{"carrier#2", "carrier#3"} {
		if name := r.ReserveName("carrier"); name != want {
			t.Errorf("the free name is %q, want %q", name, want)
		}
	}
	second, err := r.Spawn("carrier#2", 10, produce)
	if err != nil {
		t.Fatal(err)
	}
	if name := r.ReserveName("carrier"); name != "carrier#4" {
		t.Errorf("beside a running and a reserved one, the free name is %q", name)
	}
	second.Stop()
	r.ends(second)
	if name := r.ReserveName("carrier"); name != "carrier#2" {
		t.Errorf("the free name is %q", name)
	}
	h := send(r, newHold())
	<-h.reached
	r.ref.Stop()
	if _, err := r.Spawn("carrier", 10, produce); !errors.Is(err, ErrNameTaken) {
		t.Errorf("the name of an actor that stops: %v", err)
	}
	if lines := r.Tree(); len(lines) != 1 {
		t.Errorf("the tree is %q", lines)
	}
	close(h.release)
	r.ends(r.ref)
	if lines := r.Tree(); len(lines) != 0 {
		t.Errorf("the tree is %q", lines)
	}
	if name := r.ReserveName("carrier"); name != "carrier" {
		t.Errorf("the free name is %q", name)
	}
	hidden, err := r.Spawn("carrier", 10, produce, Unlisted())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Spawn("carrier", 10, produce); !errors.Is(err, ErrNameTaken) {
		t.Errorf("the name of an actor that is not listed: %v", err)
	}
	if lines := r.Tree(); len(lines) != 0 {
		t.Errorf("the tree is %q", lines)
	}
	hidden.Stop()
	r.ends(hidden)
	again := r.spawn("a/b", 10, &carrier{})
	r.idle(again)
	if lines := r.Tree(); !slices.Equal(lines, []string{"  a/b queued=0 restarts=0"}) {
		t.Errorf("the tree is %q", lines)
	}
}
