package actors

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// hangingBackend is a backend that answers or hangs, as the test says.
type hangingBackend struct {
	hangs   atomic.Bool
	hanging atomic.Int64
}

func (m *hangingBackend) ask(ctx context.Context, q backend.Query) backend.Result {
	if m.hangs.Load() {
		m.hanging.Add(1)
		return hang(ctx, q)
	}
	return goodPassword(q)
}

// short is a listener block with a short deadline.
func short(protocol string, deadline time.Duration) config.Listener {
	cfg := listenerBlock(protocol)
	cfg.Deadline = deadline
	return cfg
}

// TestHangingBackend: each protocol says "temporary failure" in its own way and in time.
func TestHangingBackend(t *testing.T) {
	login := question{"auth", "joe", "dom.example", "good", auth.Unavailable}
	cases := map[string]struct{ in, want string }{
		"generic":   {login.frame("generic"), "0\n"},
		"ejabberd":  {login.frame("ejabberd"), "\x00\x02\x00\x02"},
		"tcp_table": {"get joe@dom.example\n", "400 temporarily unavailable\n"},
		"socketmap": {"23:mailbox joe@dom.example,", "20:TEMP try again later,"},
		"saslauthd": {fields("joe", "good", "smtp", "dom.example"), "\x00\x00"},
	}
	for protocol, c := range cases {
		t.Run(protocol, func(t *testing.T) {
			r := newRig(t, func(s *setup) { s.fake.ask = hang })
			address := r.listen(short(protocol, 400*time.Millisecond))
			answeredWithin(t, 4*time.Second, "the answer", func() { same(t, r.exchange(address, c.in), c.want) })
			if log := r.log.String(); !strings.Contains(log, "verdict=unavailable source=deadline") {
				t.Errorf("the log does not say why: %s", log)
			}
		})
	}
}

// TestDeafBackend: the sweeper answers for a backend that ignores its deadline.
func TestDeafBackend(t *testing.T) {
	release := make(chan struct{})
	r := newRig(t, func(s *setup) {
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result { <-release; return goodPassword(q) }
	})
	defer close(release)
	address := r.listen(short("ejabberd", 400*time.Millisecond))
	questions := []question{{"auth", "joe", "dom.example", "good", auth.Unavailable}, {"isuser", "ann", "dom.example", "", auth.Unavailable}}
	answeredWithin(t, 4*time.Second, "the answer", func() {
		in, _ := script("ejabberd", questions)
		same(t, r.exchange(address, in), "\x00\x02\x00\x02\x00\x02\x00\x02")
	})
	if n := strings.Count(r.log.String(), "source=deadline"); n != 2 {
		t.Errorf("%d requests ran into their deadlines by the log, want 2", n)
	}
}

// TestGraceWhileHanging: while the backend hangs, a known user gets grace within the deadline.
func TestGraceWhileHanging(t *testing.T) {
	m := new(hangingBackend)
	r := newRig(t, func(s *setup) { s.fake.ask = m.ask })
	r.want(r.auth("joe", "good"), auth.Allow, auth.SourceBackend)
	r.want(r.ask(auth.Request{Op: auth.OpIsUser, User: "joe", Domain: "dom.example"}), auth.Allow, auth.SourceHot)
	r.clock.advance(2 * time.Hour)
	m.hangs.Store(true)
	address := r.listen(short("ejabberd", 2*time.Second))
	in, want := script("ejabberd", []question{
		{"auth", "joe", "dom.example", "good", auth.Allow},
		{"isuser", "joe", "dom.example", "", auth.Allow},
	})
	same(t, r.exchange(address, in), want)
	if n := strings.Count(r.log.String(), "verdict=allow source=grace"); n != 2 {
		t.Errorf("%d requests were answered by grace, want 2", n)
	}
}

// TestFreshWhileHanging: a backend that hangs with every slot taken and its queue full does
// not delay requests that memory answers.
func TestFreshWhileHanging(t *testing.T) {
	m := new(hangingBackend)
	r := newRig(t, func(s *setup) { s.fake.ask = m.ask; s.cfg.Backends[0].Queue = 2 })
	r.want(r.auth("joe", "good"), auth.Allow, auth.SourceBackend)
	r.want(r.auth("joe", "bad"), auth.Deny, auth.SourceBackend)
	m.hangs.Store(true)
	for i := range 12 {
		r.start(fmt.Sprint("unknown", i), "good") // answered at the test's end
	}
	eventually(t, "the slots to be taken", func() bool { return m.hanging.Load() == 8 })
	asked := r.fake.asked.Load()
	for range 20 {
		r.want(r.auth("joe", "good"), auth.Allow, auth.SourceHot)
		r.want(r.auth("joe", "bad"), auth.Deny, auth.SourceRefusedBefore)
	}
	if n := r.fake.asked.Load(); n != asked {
		t.Errorf("the backend was asked %d times more", n-asked)
	}
}

// TestQueuedBehindHanging: requests that wait for a slot have deadlines, too, and grace.
func TestQueuedBehindHanging(t *testing.T) {
	m := new(hangingBackend)
	r := newRig(t, func(s *setup) { s.fake.ask = m.ask; s.cfg.Backends[0].Slots = 1 })
	r.want(r.auth("joe", "good"), auth.Allow, auth.SourceBackend)
	r.clock.advance(2 * time.Hour)
	m.hangs.Store(true)
	first := r.start("unknown", "good") // holds the slot for 19 s
	eventually(t, "the slot to be taken", func() bool { return m.hanging.Load() == 1 })
	address := r.listen(short("ejabberd", 2*time.Second))
	in, _ := script("ejabberd", []question{
		{"auth", "joe", "dom.example", "good", auth.Allow},
		{"auth", "ann", "dom.example", "good", auth.Unavailable},
		{"isuser", "ann", "dom.example", "", auth.Unavailable},
	})
	same(t, r.exchange(address, in), "\x00\x02\x00\x01\x00\x02\x00\x02\x00\x02\x00\x02")
	if n := m.hanging.Load(); n != 1 {
		t.Errorf("%d questions reached the backend", n)
	}
	select {
	case a := <-first:
		t.Errorf("the first request was answered %v (%v)", a.Verdict, a.Source)
	default:
	}
}

// TestMorePatientWaiter: a request that waits for an identical one which ran out of time is
// asked again for itself if it has time left.
func TestMorePatientWaiter(t *testing.T) {
	for name, deaf := range map[string]bool{"the backend gives up": false, "the backend ignores its deadline": true} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			var asked atomic.Int64
			f := new(faults)
			r := newRig(t, func(s *setup) {
				s.inject = f.inject
				s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
					switch {
					case asked.Add(1) > 1:
						return goodPassword(q)
					case deaf:
						<-release
					}
					return hang(ctx, q)
				}
			})
			defer close(release)
			c := r.dial(r.listen(short("generic", 600*time.Millisecond)))
			login := question{"auth", "joe", "dom.example", "good", auth.Unavailable}
			if _, err := io.WriteString(c, login.frame("generic")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the first question", func() bool { return asked.Load() == 1 })
			patient := r.start("joe", "good")
			hasty := r.startRequest(auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom.example",
				Secret: auth.NewSecret("good")}, 300*time.Millisecond)
			r.routed(f, 3)
			r.want(<-hasty, auth.Unavailable, auth.SourceDeadline)
			r.want(<-patient, auth.Allow, auth.SourceBackend)
			if n := asked.Load(); n != 2 {
				t.Errorf("the backend was asked %d times, want 2", n)
			}
		})
	}
}
