package front

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postern/actors/call"
	"postern/internal/auth"
)

// TestPeerThatNeverReads is cut off and holds up no other connection.
func TestPeerThatNeverReads(t *testing.T) {
	for name, inline := range map[string]bool{"inline": true, "by a backend": false} {
		t.Run(name, func(t *testing.T) {
			body := []byte(strings.Repeat("x", 1<<18))
			r := newRig(t)
			answer := func(q auth.Request) auth.Answer {
				if q.Op == auth.OpRoster {
					return auth.Answer{Verdict: auth.Allow, Body: body}
				}
				return goodPassword(q)
			}
			r.router.backend = func(_ context.Context, q auth.Request) auth.Answer { return answer(q) }
			if inline {
				r.inMemory(answer)
			}
			cfg := listenerBlock("generic")
			cfg.WriteTimeout = 500 * time.Millisecond
			address := r.listen(cfg)
			deaf, other := r.dial(address), r.dial(address)
			if _, err := io.WriteString(deaf, strings.Repeat("roster:joe:dom.example\n", 64)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "answers that cannot be written", func() bool { return r.ready() > 8 })
			for range 20 {
				roundTrip(t, other, yes.frame("generic"), "1\n")
			}
			eventually(t, "the end of the deaf one", func() bool { return r.open() == 1 })
			eventually(t, "the end of its requests", func() bool { return r.gate.InFlight() == 0 })
			roundTrip(t, other, yes.frame("generic"), "1\n")
		})
	}
}

// TestAnswersForDeafPeers: the goroutine of a connection runs the shard that answers requests of
// others whose peers do not read, and is not held up by their writes.
func TestAnswersForDeafPeers(t *testing.T) {
	const peers, each = 8, 32
	body := []byte(strings.Repeat("x", 1<<18))
	r := newRig(t)
	var held []*call.Call // by the one shard of joe and ann
	r.router.memory = func(c *call.Call) (auth.Answer, bool) {
		if c.Req.Op == auth.OpRoster {
			held = append(held, c)
			return auth.Answer{}, false
		}
		for _, h := range held[:min(len(held), peers*each)] {
			h.Answer(auth.Answer{Verdict: auth.Allow, Body: body})
		}
		held = nil
		return accepted, true
	}
	release := make(chan struct{})
	r.router.backend = func(context.Context, auth.Request) auth.Answer { <-release; return outage }
	defer close(release)
	cfg := listenerBlock("generic")
	cfg.WriteTimeout = time.Minute
	address := r.listen(cfg)
	for range peers {
		if _, err := io.WriteString(r.dial(address), strings.Repeat("roster:joe:dom.example\n", each)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the requests of the others", func() bool { return r.router.asked.Load() == peers*each })
	c := r.dial(address)
	begun := time.Now()
	for range 100 {
		roundTrip(t, c, "auth:ann:dom.example:good\n", "1\n")
	}
	if took := time.Since(begun); took > cfg.WriteTimeout/2 {
		t.Errorf("100 logins took %v", took)
	}
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
	r := newRig(t)
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
	r := newRig(t)
	cfg := listenerBlock("generic")
	cfg.FrameTimeout = 300 * time.Millisecond
	peer := r.dial(r.listen(cfg))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	within(t, 30*time.Second, "the end of the connection", func() {
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
	r := newRig(t)
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
		roundTrip(t, peer, frame[5:]+frame[:5], "1\n")
	}
}

// TestIdlePeer is let go between its requests, but not while it waits for an answer.
func TestIdlePeer(t *testing.T) {
	b := newBarrier()
	r := newRig(t)
	r.router.backend = b.ask
	cfg := listenerBlock("ejabberd")
	cfg.IdleTimeout = 500 * time.Millisecond
	address := r.listen(cfg)
	ended(t, r.dial(address), "")
	asking := r.dial(address)
	if _, err := io.WriteString(asking, yes.frame("ejabberd")); err != nil {
		t.Fatal(err)
	}
	b.reached(t, 1)
	ended(t, r.dial(address), "") // as long as the other has been idle
	b.open()
	ended(t, asking, yes.reply("ejabberd"))
}

// TestMaxConnections: one connection too many waits until another ends.
func TestMaxConnections(t *testing.T) {
	r := newRig(t)
	cfg := listenerBlock("generic")
	cfg.MaxConnections = 2
	address := r.listen(cfg)
	first, second, third := r.dial(address), r.dial(address), r.dial(address)
	if _, err := io.WriteString(third, yes.frame("generic")); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		roundTrip(t, first, yes.frame("generic"), "1\n")
		roundTrip(t, second, yes.frame("generic"), "1\n")
	}
	if n := r.open(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	_ = first.Close()
	roundTrip(t, third, "", "1\n")
}
