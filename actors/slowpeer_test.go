package actors

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
)

// ended checks that the broker ends a connection, after some last words.
func ended(t *testing.T, c net.Conn, words string) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("after %q: %v", got, err)
	}
	same(t, string(got), words)
}

// roundTrip puts one question on an open connection and checks its answer.
func roundTrip(t *testing.T, c net.Conn, protocol string, q question) {
	t.Helper()
	want := q.reply(protocol)
	got := make([]byte, len(want))
	if _, err := io.WriteString(c, q.frame(protocol)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	same(t, string(got), want)
}

var yes = question{"auth", "joe", "dom.example", "good", auth.Allow}

// TestPeerThatNeverReads is cut off and holds up nobody.
func TestPeerThatNeverReads(t *testing.T) {
	body := []byte(strings.Repeat("x", 1<<18))
	r := newRig(t, func(s *setup) {
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			if q.Op == auth.OpRoster {
				return backend.Result{Class: backend.Accepted, Body: body}
			}
			return goodPassword(q)
		}
	})
	cfg := listenerBlock("generic")
	cfg.WriteTimeout = 500 * time.Millisecond
	address := r.listen(cfg)
	deaf, other := r.dial(address), r.dial(address)
	if _, err := io.WriteString(deaf, strings.Repeat("roster:joe:dom.example\n", 64)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "requests without an answer that leaves", func() bool { return r.gate.InFlight() > 8 })
	for range 20 {
		roundTrip(t, other, "generic", yes)
	}
	eventually(t, "the end of the deaf one", func() bool { return r.open() == 1 })
	eventually(t, "the end of its requests", func() bool { return r.gate.InFlight() == 0 })
	roundTrip(t, other, "generic", yes)
}

// TestHalfARequest: a peer that has begun a request must end it in time, and its requests
// before that are answered.
func TestHalfARequest(t *testing.T) {
	overlong := strings.Repeat("x", 70000)
	cases := map[string]struct{ protocol, input, words string }{
		"generic":           {"generic", yes.frame("generic") + "auth:joe:dom", "1\n"},
		"ejabberd":          {"ejabberd", yes.frame("ejabberd") + "\x00\x1aauth", "\x00\x02\x00\x01"},
		"ejabberd, a byte":  {"ejabberd", "\x00", ""},
		"tcp_table":         {"tcp_table", "get joe", ""},
		"saslauthd":         {"saslauthd", fields("joe", "good"), ""},
		"over-long line":    {"generic", overlong, ""},
		"over-long frame":   {"ejabberd", "\xff\xff" + overlong[:65000], ""},
		"after one of them": {"generic", overlong + "\nauth:", "0\n"},
	}
	r := newRig(t, nil)
	peers := make(map[string]net.Conn)
	for name, c := range cases {
		cfg := listenerBlock(c.protocol)
		cfg.Name, cfg.FrameTimeout, cfg.MaxFrame = name, 300*time.Millisecond, 16384
		peers[name] = r.dial(r.listen(cfg))
		if _, err := io.WriteString(peers[name], c.input); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { ended(t, peers[name], c.words) })
	}
}

// TestSlowLoris: a byte now and then does not prolong the time for a request.
func TestSlowLoris(t *testing.T) {
	r := newRig(t, nil)
	cfg := listenerBlock("generic")
	cfg.FrameTimeout = 300 * time.Millisecond
	peer := r.dial(r.listen(cfg))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	answeredWithin(t, 8*time.Second, "the end of the connection", func() {
		for {
			if _, err := io.WriteString(peer, "x"); err != nil {
				return
			}
			<-tick.C
		}
	})
}

// TestBusyPeerMayGoOn: the time for a request counts from its own beginning, also on a
// connection whose every read ends within a request.
func TestBusyPeerMayGoOn(t *testing.T) {
	r := newRig(t, nil)
	cfg := listenerBlock("generic")
	cfg.FrameTimeout = 1500 * time.Millisecond
	peer := r.dial(r.listen(cfg))
	frame := yes.frame("generic")
	if _, err := io.WriteString(peer, frame[:5]); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < cfg.FrameTimeout*3/2; <-tick.C {
		roundTripText(t, peer, frame[5:]+frame[:5], "1\n")
	}
}

func roundTripText(t *testing.T, c net.Conn, input, want string) {
	t.Helper()
	if _, err := io.WriteString(c, input); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	same(t, string(got), want)
}

// TestIdlePeer is let go between its requests, but not while it waits for an answer.
func TestIdlePeer(t *testing.T) {
	g := newGate()
	r := newRig(t, func(s *setup) { s.fake.ask = g.ask })
	cfg := listenerBlock("ejabberd")
	cfg.IdleTimeout = 500 * time.Millisecond
	address := r.listen(cfg)
	ended(t, r.dial(address), "")
	asking := r.dial(address)
	if _, err := io.WriteString(asking, yes.frame("ejabberd")); err != nil {
		t.Fatal(err)
	}
	g.reached(t, 1)
	ended(t, r.dial(address), "") // as long as the other has been idle
	g.open()
	ended(t, asking, yes.reply("ejabberd"))
}

// TestMaxConnections: one connection too many waits until another ends.
func TestMaxConnections(t *testing.T) {
	r := newRig(t, nil)
	cfg := listenerBlock("generic")
	cfg.MaxConnections = 2
	address := r.listen(cfg)
	first, second, third := r.dial(address), r.dial(address), r.dial(address)
	if _, err := io.WriteString(third, yes.frame("generic")); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		roundTrip(t, first, "generic", yes)
		roundTrip(t, second, "generic", yes)
	}
	if n := r.open(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	_ = first.Close()
	got := make([]byte, 2)
	if _, err := io.ReadFull(third, got); err != nil || string(got) != "1\n" {
		t.Errorf("the third connection got %q, %v", got, err)
	}
}
