package actors

import (
	"context"
	"io"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// counted returns the broker's counts, all of which must be there.
func (r *rig) counted() Counts {
	r.t.Helper()
	c, err := r.Counts(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// decided is how often a front gave an answer.
func (f FrontCounts) decided(op auth.Operation, v auth.Verdict, s auth.Source) (n uint64) {
	for _, d := range f.Decisions {
		if d.Op == op && d.Verdict == v && d.Source == s {
			n += d.Count
		}
	}
	return n
}

// TestHistogram: a duration counts in the bucket of the least bound that it does not exceed, and in
// all above; one beyond all bounds only in the whole.
func TestHistogram(t *testing.T) {
	var h histogram
	for _, took := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 30 * time.Second, time.Hour} {
		h.observe(took)
	}
	got := h.read()
	if got.Count != 5 || got.Sum != time.Hour+30*time.Second+2*time.Millisecond+1 {
		t.Errorf("%d in %v", got.Count, got.Sum)
	}
	for bound, want := range map[time.Duration]uint64{
		100 * time.Microsecond: 1, time.Millisecond: 2, 5 * time.Millisecond: 3, 10 * time.Second: 3, 30 * time.Second: 4,
	} {
		if got.UpTo[bound] != want {
			t.Errorf("%d took up to %v, want %d", got.UpTo[bound], bound, want)
		}
	}
}

// TestCounts: every answer of a front is counted once, by what it was, and what came of each
// question to a backend.
func TestCounts(t *testing.T) {
	r := newRig(t, nil)
	address := r.listen(listenerBlock("generic"))
	const right, wrong = "auth:joe:dom.example:good\n", "auth:joe:dom.example:bad\n"
	for _, line := range []string{right, right, right, wrong, "isuser:joe:dom.example\n", "auth:joe:other.example:x\n"} {
		r.exchange(address, line)
	}
	// A password not heard of before is compared by hash at most once more.
	c := r.counted()
	f := c.Fronts["generic"]
	remembered := f.decided(auth.OpAuth, auth.Allow, auth.SourceHot) + f.decided(auth.OpAuth, auth.Allow, auth.SourceCache)
	if remembered != 2 || f.decided(auth.OpAuth, auth.Allow, auth.SourceBackend) != 1 ||
		f.decided(auth.OpAuth, auth.Deny, auth.SourceBackend) != 1 ||
		f.decided(auth.OpAuth, auth.Deny, auth.SourceUnknownDomain) != 1 ||
		f.decided(auth.OpIsUser, auth.Allow, auth.SourceBackend)+f.decided(auth.OpIsUser, auth.Allow, auth.SourceHot) != 1 {
		t.Errorf("decisions: %+v", f.Decisions)
	}
	if f.Took.Count != 6 || f.Took.UpTo[30*time.Second] != 6 || f.Took.Sum <= 0 {
		t.Errorf("times: %+v", f.Took)
	}
	b := c.Backends[rigBackend]
	if asked := uint64(r.fake.asked.Load()); b.Took.Count != asked ||
		b.Answers[backend.Refused] != 1 || b.Answers[backend.Accepted] != asked-1 || b.Answers[backend.Outage] != 0 {
		t.Errorf("backend: %+v, asked %d times", b, asked)
	}
	if c.ConnectionsEver != 6 || c.Domains["dom.example"].Users != 1 {
		t.Errorf("%+v", c)
	}
}

// TestCountsOfABackend: slots, queue and breaker are shown as they are.
func TestCountsOfABackend(t *testing.T) {
	g := newRegime("good")
	let := make(chan struct{})
	r := newRig(t, func(s *setup) {
		g.use(s)
		inner := s.fake.ask
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			if q.User == "slow" {
				<-let
			}
			return inner(ctx, q)
		}
		s.cfg.Backends[0].Slots, s.cfg.Backends[0].BreakerFailures, s.cfg.Backends[0].BreakerCooldown = 1, 1, time.Hour
	})
	address := r.listen(listenerBlock("generic"))
	c := r.dial(address)
	is := func(busy, waiting int, open bool) func() bool {
		return func() bool {
			b := r.counted().Backends[rigBackend]
			return b.Slots == 1 && b.Busy == busy && b.Waiting == waiting && b.Open == open
		}
	}
	ask := func(lines string) {
		if _, err := io.WriteString(c, lines); err != nil {
			t.Fatal(err)
		}
	}
	ask("auth:slow:dom.example:good\n")
	eventually(t, "one at the backend", is(1, 0, false))
	ask("auth:ann:dom.example:good\nauth:bob:dom.example:good\n")
	eventually(t, "one at the backend and two waiting", is(1, 2, false))
	if n := r.counted().InFlight; n != 3 {
		t.Errorf("%d in flight", n)
	}
	close(let)
	eventually(t, "nobody there", is(0, 0, false))
	g.always(backend.Outage)
	r.auth("eve", "good")
	eventually(t, "an open breaker", is(0, 0, true))
	if n := r.counted().Backends[rigBackend].Answers[backend.Outage]; n != 1 {
		t.Errorf("%d outages", n)
	}
}

// TestCountsOutliveAReload: what a listener has counted stays, and restarts are counted whoever
// was restarted.
func TestCountsOutliveAReload(t *testing.T) {
	f := new(faults)
	r := newRig(t, func(s *setup) { s.inject = f.inject })
	sockets := r.reload(func(c *config.Config) { c.Listeners = []config.Listener{listenerBlock("generic")} })
	address := sockets["generic"].Addr().String()
	r.settled(f)
	f.arm("/router", callMissed, 1)
	r.exchange(address, "auth:joe:dom.example:good\n")
	eventually(t, "the restart", func() bool { return r.counted().Restarts == 1 && r.recovered() })
	before := r.counted().Fronts["generic"].Took.Count
	r.reload(func(c *config.Config) { c.Listeners[0].Deadline += time.Second })
	r.exchange(address, "auth:joe:dom.example:good\n")
	if n := r.counted().Fronts["generic"].Took.Count; before != 1 || n != 2 {
		t.Errorf("%d and then %d answers", before, n)
	}
}

// A part of the cache that is stuck costs its own figures only.
func TestCountsOfAStuckShard(t *testing.T) {
	r := newRig(t, nil)
	r.auth("joe", "good")
	let, in := make(chan struct{}), make(chan struct{})
	d := r.table.Load().domains["dom.example"]
	go func() { _ = d.shards[0].in(context.Background(), func(*shard) { close(in); <-let }) }()
	<-in
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	c, err := r.Counts(ctx)
	if err == nil || c.Backends[rigBackend].Took.Count != 1 {
		t.Errorf("%v, %+v", err, c)
	}
	close(let)
	r.counted()
}
