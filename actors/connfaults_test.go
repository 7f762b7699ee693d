package actors

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
)

// TestConnectionFaults lets a connection's actor panic while it writes answers: each leaves
// once, in order.
func TestConnectionFaults(t *testing.T) {
	for kind, times := range map[string]int{"wake": 4, "Started": 3} {
		t.Run(kind, func(t *testing.T) {
			f := new(faults)
			r := newRig(t, func(s *setup) { s.inject = f.inject })
			r.hasty()
			cfg := listenerBlock("ejabberd")
			cfg.Pipeline = 2 // many wake-ups
			address := r.listen(cfg)
			r.settled(f)
			f.arm("conn:", kind, times)
			if kind == "Started" {
				f.arm("conn:", "wake", 1) // so that there is more than one start
			}
			in, want := script("ejabberd", mixture("ejabberd", 60, false))
			same(t, r.exchange(address, in), want)
			if n := f.left(); n != 0 {
				t.Errorf("%d panics did not happen", n)
			}
		})
	}
}

// TestFailedWhileAdmitted: a request may be failed, as Stop does, from the moment that it is in
// the ring on. The race detector watches what the log reads of it.
func TestFailedWhileAdmitted(t *testing.T) {
	const n = 3000
	r := newRig(t, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		got := r.exchange(r.listen(listenerBlock("generic")), strings.Repeat(yes.frame("generic"), n))
		if len(got) != 2*n || strings.Trim(got, "01\n") != "" {
			t.Errorf("%d bytes of answers, want %d", len(got), 2*n)
		}
	}()
	for ended := false; !ended; {
		r.failInFlight()
		select {
		case <-done:
			ended = true
		default:
		}
	}
}

// readerThatPanics gives its text and then panics.
type readerThatPanics struct{ io.Reader }

func (p readerThatPanics) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if err == io.EOF {
		panic(injected("read"))
	}
	return n, err
}

// TestReaderPanics: what was asked before is answered, and the connection ends.
func TestReaderPanics(t *testing.T) {
	r := newRig(t, nil)
	in, want := script("generic", mixture("generic", 20, false))
	var out strings.Builder
	answeredWithin(t, 8*time.Second, "Pipe", func() {
		if err := r.Pipe(listenerBlock("generic"), readerThatPanics{strings.NewReader(in)}, &out); err != nil {
			t.Error(err)
		}
	})
	same(t, out.String(), want)
	if !strings.Contains(r.log.String(), "reader panicked") {
		t.Error("the log says nothing")
	}
}

// writerThatPanics panics before its first write.
type writerThatPanics struct {
	strings.Builder
	panicked bool
}

func (w *writerThatPanics) Write(b []byte) (int, error) {
	if !w.panicked {
		w.panicked = true
		panic(injected("write"))
	}
	return w.Builder.Write(b)
}

// TestWriterPanics: what was encoded but not written leaves after the restart.
func TestWriterPanics(t *testing.T) {
	r := newRig(t, nil)
	in, want := script("generic", mixture("generic", 20, false))
	out := new(writerThatPanics)
	answeredWithin(t, 8*time.Second, "Pipe", func() {
		if err := r.Pipe(listenerBlock("generic"), strings.NewReader(in), out); err != nil {
			t.Error(err)
		}
	})
	same(t, out.String(), want)
}

// acceptPanics is a socket whose Accept panics now and then.
type acceptPanics struct {
	net.Listener
	panics atomic.Int64
}

func (a *acceptPanics) Accept() (net.Conn, error) {
	if a.panics.Add(-1) >= 0 {
		panic(injected("accept"))
	}
	return a.Listener.Accept()
}

// TestAcceptPanics: a listener goes on accepting, and the connections it has stay.
func TestAcceptPanics(t *testing.T) {
	r := newRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket := &acceptPanics{Listener: l}
	if err := r.Listen(listenerBlock("generic"), socket); err != nil {
		t.Fatal(err)
	}
	yes := question{"auth", "joe", "dom.example", "good", auth.Allow}
	kept := r.dial(l.Addr().String())
	ask := func(c net.Conn) {
		t.Helper()
		got := make([]byte, 2)
		if _, err := io.WriteString(c, yes.frame("generic")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil || string(got) != yes.reply("generic") {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	ask(kept)
	socket.panics.Store(2)
	ask(r.dial(l.Addr().String())) // taken by the Accept that was under way
	eventually(t, "two restarts", func() bool { return r.restarts("listener:") == 2 })
	ask(r.dial(l.Addr().String()))
	ask(kept)
}

// TestRouterPanicsBeforeManyWaiters: those who wait for one answer are not the router's to
// lose.
func TestRouterPanicsBeforeManyWaiters(t *testing.T) {
	const n = 20
	f := new(faults)
	gate := newGate()
	r := newRig(t, func(s *setup) { s.inject, s.fake.ask = f.inject, gate.ask })
	var answers []<-chan auth.Answer
	for range n {
		answers = append(answers, r.start("joe", "good"))
	}
	r.routed(f, n)
	f.arm("/router", "tick", 1)
	r.tickAll()
	eventually(t, "the restart", func() bool { return r.restarts("/router") == 1 && r.recovered() })
	late := r.start("joe", "good") // the new router does not know of the others
	gate.reached(t, 2)
	gate.open()
	for _, a := range append(answers, late) {
		if got := <-a; got.Verdict != auth.Allow {
			t.Errorf("answered %v (%v)", got.Verdict, got.Source)
		}
	}
	if asked := r.fake.asked.Load(); asked != 2 {
		t.Errorf("the backend was asked %d times, want 2", asked)
	}
}
