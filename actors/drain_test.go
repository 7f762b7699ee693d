package actors

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
)

const unavailableFrame = "\x00\x02\x00\x02"

// TestDrain: what is in flight is answered, what comes then is left to the next process, and every
// connection ends.
func TestDrain(t *testing.T) {
	f, g := new(faults), newBarrier()
	r := newRig(t, func(s *setup) { s.fake.ask, s.inject = g.ask, f.inject })
	address := r.listen(listenerBlock("ejabberd"))
	unix := r.listenOn("unix", listenerBlock("generic"))
	var busy []client
	for i := range 12 { // with 8 slots
		c := r.dial(address)
		busy = append(busy, c)
		for range 2 { // the second waits for the first
			if _, err := io.WriteString(c, question{op: "auth", user: fmt.Sprint("user", i), domain: "dom.example", secret: "good"}.frame("ejabberd")); err != nil {
				t.Fatal(err)
			}
		}
	}
	idle, idleUnix := r.dial(address), r.dial(unix)
	inside := r.start("inside", "good")
	r.routed(f, 25)
	eventually(t, "the connections", func() bool { return r.open() == 14 })
	done := make(chan bool, 1)
	go func() { done <- r.Drain(context.Background()) }()
	ended(t, idle, "")
	ended(t, idleUnix, "")
	for _, c := range busy {
		_, _ = io.WriteString(c, yes.frame("ejabberd"))
	}
	if c, err := net.Dial("tcp", address); err == nil {
		_ = c.Close()
		t.Error("the listener still listens")
	}
	select {
	case <-done:
		t.Fatal("Drain did not wait for its requests")
	default:
	}
	g.open()
	for _, c := range busy {
		ended(t, c, "\x00\x02\x00\x01\x00\x02\x00\x01")
	}
	r.want(<-inside, auth.Allow, auth.SourceBackend)
	if !<-done {
		t.Error("Drain says that something was not answered")
	}
	r.want(r.auth("late", "good"), auth.Unavailable, auth.SourceDraining)
	eventually(t, "the end of the connections", func() bool { return r.open() == 0 })
}

var isUserQuestion = question{"isuser", "joe", "dom.example", "", auth.Allow}

// TestDrainTimesOut: what is not answered in time is answered "temporary failure" by Stop.
func TestDrainTimesOut(t *testing.T) {
	g := newBarrier() // never opened
	r := newRig(t, func(s *setup) { s.fake.ask = g.ask })
	c := r.dial(r.listen(listenerBlock("ejabberd")))
	if _, err := io.WriteString(c, yes.frame("ejabberd")+isUserQuestion.frame("ejabberd")); err != nil {
		t.Fatal(err)
	}
	g.reached(t, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	answeredWithin(t, 3*time.Second, "Drain", func() {
		if r.Drain(ctx) {
			t.Error("Drain says that all was answered")
		}
	})
	answeredWithin(t, 8*time.Second, "Stop", r.stop)
	ended(t, c, unavailableFrame+unavailableFrame)
}

// TestStopInMidFlight: requests with the backend, waiting for a slot, waiting for an identical
// one, and of every kind of asker, are answered by Stop.
func TestStopInMidFlight(t *testing.T) {
	f, g := new(faults), newBarrier()
	r := newRig(t, func(s *setup) {
		withTokens(s)
		s.fake.ask, s.inject = g.ask, f.inject
		s.cfg.Backends[0].Slots = 2
	})
	cfg := listenerBlock("ejabberd")
	cfg.Deadline = time.Minute // only Stop ends the wait
	c := r.dial(r.listen(cfg))
	in, want := "", ""
	for i := range 10 {
		in += question{op: "auth", user: fmt.Sprint("user", i/2), domain: "dom.example", secret: "good"}.frame("ejabberd")
		want += unavailableFrame
	}
	if _, err := io.WriteString(c, in); err != nil {
		t.Fatal(err)
	}
	var inside []<-chan auth.Answer
	for i := range 10 {
		inside = append(inside, r.start(fmt.Sprint("user", i/2), "good"))
	}
	r.routed(f, 20)
	g.reached(t, 2)
	answeredWithin(t, 8*time.Second, "Stop", r.stop)
	ended(t, c, want)
	for _, a := range inside {
		if got := <-a; got.Verdict != auth.Unavailable {
			t.Errorf("answered %v (%v)", got.Verdict, got.Source)
		}
	}
}

// TestStopWithDeafBackend: peers have their answers at once, although the backend ignores
// the end of its context, and it is not closed before it has answered.
func TestStopWithDeafBackend(t *testing.T) {
	release := make(chan struct{})
	var early atomic.Bool
	r := newRig(t, func(s *setup) {
		fake := s.fake
		fake.ask = func(context.Context, backend.Query) backend.Result {
			<-release
			early.Store(fake.closed.Load())
			return backend.Result{Class: backend.Accepted}
		}
	})
	cfg := listenerBlock("ejabberd")
	cfg.Deadline = time.Minute
	c := r.dial(r.listen(cfg))
	if _, err := io.WriteString(c, yes.frame("ejabberd")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the question", func() bool { return r.fake.asked.Load() == 1 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	ended(t, c, unavailableFrame)
	select {
	case <-stopped:
		t.Error("Stop did not wait for the backend")
	case <-time.After(300 * time.Millisecond): // it has nothing else to do by now
	}
	close(release)
	<-stopped
	if early.Load() {
		t.Error("the backend was closed while it was asked")
	}
}

// TestStopWhileHashing: requests that wait for a comparison are answered by Stop.
func TestStopWhileHashing(t *testing.T) {
	l := newRestarter(t)
	r := l.next(nil)
	r.want(r.auth("joe", "good"), auth.Allow, auth.SourceBackend)
	r.hashed("joe", 1)
	f := new(faults)
	r.stop()
	r = newRig(t, func(s *setup) { onDisk(s, l.disk); s.clock, s.inject, s.fake.ask = l.clock, f.inject, outage })
	r.want(r.auth("nobody", "bad"), auth.Unavailable, auth.SourceBackend) // or it would be asked in place of comparisons
	release := r.busyHashing()
	var answers []<-chan auth.Answer
	for i := range 50 {
		answers = append(answers, r.start("joe", fmt.Sprint("good", i))) // to be compared with joe's hash
	}
	eventually(t, "50 comparisons", func() bool { return r.stats().Compares >= 50 })
	go release() // the workers end what they have begun
	answeredWithin(t, 8*time.Second, "Stop", r.stop)
	for _, a := range answers {
		if got := <-a; got.Verdict == auth.Allow {
			t.Errorf("answered %v (%v)", got.Verdict, got.Source)
		}
	}
}

// TestDrainAnswersNewConnections: a client that connected just before the drain is answered, and one
// that sends nothing does not delay the drain.
func TestDrainAnswersNewConnections(t *testing.T) {
	r := newRig(t, nil)
	address := r.listen(listenerBlock("generic"))
	recent, silent := r.dial(address), r.dial(address)
	eventually(t, "the connections", func() bool { return r.open() == 2 })
	done := make(chan bool, 1)
	go func() { done <- r.Drain(context.Background()) }()
	eventually(t, "the end of listening", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	roundTripText(t, recent, yes.frame("generic"), "1\n")
	ended(t, recent, "")
	ended(t, silent, "")
	answeredWithin(t, 3*time.Second, "Drain", func() { <-done })
}

// slowListener is a socket that accepts nothing until Drain has looked into its backlog.
type slowListener struct {
	*net.TCPListener
	once   sync.Once
	looked chan struct{}
}

func (l *slowListener) Accept() (net.Conn, error) {
	<-l.looked
	return l.TCPListener.Accept()
}

func (l *slowListener) SyscallConn() (syscall.RawConn, error) {
	defer l.once.Do(func() { close(l.looked) })
	return l.TCPListener.SyscallConn()
}

// TestDrainAcceptsBacklog: a connection that is still in the listen backlog when the drain begins is
// answered.
func TestDrainAcceptsBacklog(t *testing.T) {
	r := newRig(t, nil)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &slowListener{TCPListener: socket.(*net.TCPListener), looked: make(chan struct{})}
	if err := r.Listen(listenerBlock("generic"), l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.once.Do(func() { close(l.looked) }) })
	c := r.dial(socket.Addr().String())
	if _, err := io.WriteString(c, yes.frame("generic")); err != nil {
		t.Fatal(err)
	}
	answeredWithin(t, 3*time.Second, "Drain", func() { r.Drain(context.Background()) })
	ended(t, c, "1\n")
}
