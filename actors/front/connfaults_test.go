package front

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestConnectionFaults lets a connection's actor panic while it writes answers: each leaves
// once, in order.
func TestConnectionFaults(t *testing.T) {
	for kind, times := range map[string]int{"wake": 4, "Started": 3} {
		for _, inline := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/inline=%t", kind, inline), func(t *testing.T) {
				r := newRig(t)
				if !inline {
					r.router.backend = new(relay).ask
				}
				cfg := listenerBlock("ejabberd")
				cfg.Pipeline = 2 // many wake-ups
				address := r.listen(cfg)
				r.faults.arm("conn:", kind, times)
				if kind == "Started" {
					r.faults.arm("conn:", "wake", 1) // so that there is more than one start
				}
				in, want := script("ejabberd", mixture("ejabberd", 60, false))
				same(t, r.exchange(address, in), want)
				if n := r.faults.left(); n != 0 {
					t.Errorf("%d panics did not happen", n)
				}
			})
		}
	}
}

// TestFailedWhileAdmitted: a request may be failed, as Stop does, from the moment that it is in
// the ring on. The race detector watches what the log reads of it.
func TestFailedWhileAdmitted(t *testing.T) {
	const n = 3000
	r := newRig(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		got := r.exchange(r.listen(listenerBlock("generic")), strings.Repeat(yes.frame("generic"), n))
		if len(got) != 2*n || strings.Trim(got, "01\n") != "" {
			t.Errorf("%d bytes of answers, want %d", len(got), 2*n)
		}
	}()
	for ended := false; !ended; {
		r.FailInFlight()
		select {
		case <-done:
			ended = true
		default:
		}
	}
}

// TestReaderPanics: what was asked before is answered, and the connection ends.
func TestReaderPanics(t *testing.T) {
	r := newRig(t)
	in, want := script("generic", mixture("generic", 20, false))
	socket := &watchedSocket{Listener: socketOf(t)}
	socket.panicAtEOF.Store(true)
	address := r.listenAt(listenerBlock("generic"), socket)
	same(t, r.exchange(address, in), want)
	if !strings.Contains(r.log.String(), "reader panicked") {
		t.Error("the log says nothing")
	}
}

// TestPreparePanics: a request that was lost before it was let in is not waited for by a drain.
func TestPreparePanics(t *testing.T) {
	r := newRig(t)
	r.router.prepare = func() { panic(injected("prepare")) }
	same(t, r.exchange(r.listen(listenerBlock("generic")), yes.frame("generic")), "")
	if n := r.router.gate.InFlight(); n != 0 {
		t.Errorf("%d requests are in flight", n)
	}
}

// TestWriterPanics: what was encoded but not written leaves after the restart.
func TestWriterPanics(t *testing.T) {
	for _, inline := range []bool{true, false} {
		t.Run(fmt.Sprintf("inline=%t", inline), func(t *testing.T) {
			r := newRig(t)
			if !inline {
				r.router.backend = new(relay).ask
			}
			in, want := script("generic", mixture("generic", 20, false))
			address := r.listenAt(listenerBlock("generic"), &watchedSocket{Listener: socketOf(t), panicAtWrite: 1})
			same(t, r.exchange(address, in), want)
			if !strings.Contains(r.log.String(), "front.injected") {
				t.Error("the write did not panic")
			}
		})
	}
}

// acceptPanics is a socket with an Accept that panics now and then.
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
	r := newRig(t)
	socket := &acceptPanics{Listener: socketOf(t)}
	address := r.listenAt(listenerBlock("generic"), socket)
	kept := r.dial(address)
	ask := func(c net.Conn) {
		t.Helper()
		roundTrip(t, c, yes.frame("generic"), yes.reply("generic"))
	}
	ask(kept)
	socket.panics.Store(2)
	ask(r.dial(address)) // taken by the Accept that was under way
	eventually(t, "two restarts", func() bool { return r.restarts("listener:") == 2 })
	ask(r.dial(address))
	ask(kept)
}

// TestAcceptFails: a listener tries again when no connection can be accepted for a while.
func TestAcceptFails(t *testing.T) {
	r := newRig(t)
	socket := &acceptFails{Listener: socketOf(t), at: time.Now().Add(50 * time.Millisecond)}
	address := r.listenAt(listenerBlock("generic"), socket)
	roundTrip(t, r.dial(address), yes.frame("generic"), yes.reply("generic"))
	if !strings.Contains(r.log.String(), "trying again") {
		t.Error("the log says nothing")
	}
}

// acceptFails is a socket with an Accept that fails for some time.
type acceptFails struct {
	net.Listener
	at time.Time
}

func (a *acceptFails) Accept() (net.Conn, error) {
	if time.Now().Before(a.at) {
		return nil, io.ErrUnexpectedEOF
	}
	return a.Listener.Accept()
}
