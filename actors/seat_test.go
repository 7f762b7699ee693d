package actors

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend"
)

// seated counts the actors of connections, those that wait for one included.
func (r *rig) seated() (n int) {
	for _, bucket := range r.sys.ProcessRegistry.LocalPIDs.LocalPIDs {
		for _, name := range bucket.Keys() {
			if strings.HasPrefix(name, "conn:") {
				n++
			}
		}
	}
	return n
}

// waiting counts the seats of the first listener that wait for a connection.
func (r *rig) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.listeners[0].seats.parked()
}

// oneShot asks for a login by the protocol of saslauthd and returns the two letters of the answer.
func (r *rig) oneShot(address, user, password string) string {
	r.t.Helper()
	out := r.exchange(address, string(saslauthdLogin(user, password)))
	if len(out) < 2 {
		r.t.Fatalf("answered %q", out)
	}
	return out[2:min(4, len(out))]
}

// TestSeatsServeOneAfterAnother: a thousand connections, one at a time, take a few actors, and
// each gets its own answer.
func TestSeatsServeOneAfterAnother(t *testing.T) {
	const n = 1000
	r := newRig(t, nil)
	address := r.listenOn("unix", listenerBlock("saslauthd"))
	for i := range n {
		password, want := "good", "OK"
		if i%3 == 0 {
			password, want = "bad", "NO"
		}
		if got := r.oneShot(address, "joe", password); got != want {
			t.Fatalf("connection %d was answered %q, want %q", i, got, want)
		}
	}
	if made := r.seatSeq.Load(); made > parkedSeats {
		t.Errorf("%d connections took %d actors", n, made)
	}
	if _, ever := r.Connections(); ever != n {
		t.Errorf("%d connections were counted, want %d", ever, n)
	}
}

// TestSeatsAfterBurst: of the seats of many connections at once so many stay as a listener keeps,
// and none when it is taken away.
func TestSeatsAfterBurst(t *testing.T) {
	const n = 3 * parkedSeats
	r := newRig(t, nil)
	address := r.listenOn("unix", listenerBlock("generic"))
	var conns []client
	for range n {
		conns = append(conns, r.dial(address))
	}
	eventually(t, "all connections to be accepted", func() bool { open, _ := r.Connections(); return open == n })
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "the surplus to go", func() bool { return r.seated() == parkedSeats })
	if open, _ := r.Connections(); open != 0 || r.waiting() != parkedSeats {
		t.Errorf("%d connections are open and %d seats wait", open, r.waiting())
	}
	r.mu.Lock()
	l := r.listeners[0]
	r.mu.Unlock()
	r.takeAway(l)
	eventually(t, "all to go", func() bool { return r.seated() == 0 })
}

// TestLateAnswer: what comes for a connection that has ended does nothing to the one that its
// seat serves by then.
func TestLateAnswer(t *testing.T) {
	first, second := newGate(), newGate()
	r := newRig(t, func(s *setup) {
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			if q.User == "ann" {
				return first.ask(ctx, q)
			}
			return second.ask(ctx, q)
		}
	})
	address := r.listenOn("unix", listenerBlock("saslauthd"))

	ended := make(chan *conn, 1)
	late := make(chan *Call, 1)
	go func() {
		first.reached(t, 1)
		r.mu.Lock()
		defer r.mu.Unlock()
		for c := range r.conns {
			ended <- c
			call := c.ring[0].Load()
			call.Fail(auth.SourceDeadline) // of a deadline; the backend's answer comes late
			late <- call
		}
	}()
	if got := r.oneShot(address, "ann", "good"); got != "" {
		t.Fatalf("the first was answered %q", got)
	}
	before, call := <-ended, <-late
	eventually(t, "the seat to wait", func() bool { return r.waiting() == 1 })

	answer := make(chan string, 1)
	go func() { answer <- r.oneShot(address, "bob", "bad") }()
	second.reached(t, 1)
	now := before.seat.conn.Load()
	if now == nil || now == before || r.seatSeq.Load() != 1 {
		t.Fatalf("the second connection is not served by the seat of the first")
	}
	for range 100 {
		before.answered(call)
		if call.Answer(auth.Answer{Verdict: auth.Allow}) {
			t.Error("a call was answered twice")
		}
	}
	first.open()
	eventually(t, "the late answer at the cache", func() bool { return r.auth("ann", "good").Source == auth.SourceHot })
	if now.next.Load() != 0 || !now.busy() {
		t.Error("something was written to the second connection")
	}
	second.open()
	if got := <-answer; got != "NO" {
		t.Errorf("the second was answered %q", got)
	}
}

// TestSeatThatPanicked: the connection on which an actor panics is answered all the same, and is
// the last of its seat.
func TestSeatThatPanicked(t *testing.T) {
	f := new(faults)
	r := newRig(t, func(s *setup) { s.inject = f.inject })
	r.hasty()
	address := r.listenOn("unix", listenerBlock("saslauthd"))
	for i, panics := range []int{0, 0, 3, 0} {
		f.arm("conn:", "wake", min(panics, 1))
		f.arm("conn:", "Started", max(panics-1, 0)) // those of its restarts
		if got := r.oneShot(address, "joe", "good"); got != "OK" {
			t.Errorf("connection %d was answered %q", i, got)
		}
		eventually(t, "the end of the connection", func() bool { open, _ := r.Connections(); return open == 0 })
		eventually(t, "the seat", func() bool { return r.seated() == r.waiting() })
	}
	if f.left() != 0 || r.seatSeq.Load() != 2 || r.waiting() != 1 {
		t.Errorf("%d panics are left, %d actors were made and %d wait; want none, two and one", f.left(), r.seatSeq.Load(), r.waiting())
	}
}

// TestCloseAfterAnswer: who has asked the one question of a connection and nothing more finds it
// closed with the answer where that cannot destroy the answer, on a Unix socket; else the rest of
// what he may send is read first.
func TestCloseAfterAnswer(t *testing.T) {
	login := string(saslauthdLogin("joe", "good"))
	full := string(saslauthdLogin("joe", strings.Repeat("x", smallBuffer-len(saslauthdLogin("joe", "")))))
	for name, c := range map[string]struct {
		network, input string
		closed         bool
	}{
		"unix":                {"unix", login, true},
		"tcp":                 {"tcp", login, false},
		"unix, more":          {"unix", login + "more", false},
		"unix, buffer full":   {"unix", full, false},
		"unix, refused frame": {"unix", "\xff\xff", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			conn := r.dial(r.listenOn(c.network, listenerBlock("saslauthd")))
			if _, err := io.WriteString(conn, c.input); err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(conn)
			if err != nil || len(out) < 4 {
				t.Fatalf("answered %q: %v", out, err)
			}
			_, err = io.WriteString(conn, "late")
			if c.closed && !errors.Is(err, syscall.EPIPE) || !c.closed && err != nil {
				t.Errorf("a write after the end of the answers: %v", err)
			}
		})
	}
}
