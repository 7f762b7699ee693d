package actors

import (
	"context"
	"io"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"

	"github.com/prometheus/client_golang/prometheus"
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

// metric sums the samples of a counter, or the number of a histogram's observations, that have all
// these labels.
func (r *rig) metric(name string, labels ...string) (sum float64) {
	r.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(unchecked{r.Broker})
	families, err := registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "postern_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := make(map[string]string)
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			all := true
			for i := 0; i < len(labels); i += 2 {
				all = all && have[labels[i]] == labels[i+1]
			}
			if all {
				sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// unchecked is a collector that describes nothing.
type unchecked struct{ *Broker }

func (unchecked) Describe(chan<- *prometheus.Desc) {}

// decided is how often the generic front gave an answer.
func (r *rig) decided(op auth.Operation, v auth.Verdict, s auth.Source) float64 {
	return r.metric("decisions_total", "front", "generic", "op", op.String(), "verdict", v.String(), "source", s.String())
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
	remembered := r.decided(auth.OpAuth, auth.Allow, auth.SourceHot) + r.decided(auth.OpAuth, auth.Allow, auth.SourceCache)
	if remembered != 2 || r.decided(auth.OpAuth, auth.Allow, auth.SourceBackend) != 1 ||
		r.decided(auth.OpAuth, auth.Deny, auth.SourceBackend) != 1 ||
		r.decided(auth.OpAuth, auth.Deny, auth.SourceUnknownDomain) != 1 ||
		r.decided(auth.OpIsUser, auth.Allow, auth.SourceBackend)+r.decided(auth.OpIsUser, auth.Allow, auth.SourceHot) != 1 {
		t.Error("the decisions are not those that were made")
	}
	if n := r.metric("decision_seconds", "front", "generic"); n != 6 {
		t.Errorf("%v times were observed", n)
	}
	answers := func(c backend.Class) float64 {
		return r.metric("backend_answers_total", "backend", rigBackend.String(), "class", c.String())
	}
	if asked := float64(r.fake.asked.Load()); r.metric("backend_seconds", "backend", rigBackend.String()) != asked ||
		answers(backend.Refused) != 1 || answers(backend.Accepted) != asked-1 || answers(backend.Outage) != 0 {
		t.Errorf("backend: asked %v times", asked)
	}
	if c.ConnectionsEver != 6 || c.Domains["dom.example"].Users != 1 {
		t.Errorf("%+v", c)
	}
}

// TestCountsOfABackend: slots, queue and breaker are shown as they are.
func TestCountsOfABackend(t *testing.T) {
	g := newScriptedBackend("good")
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
	eventually(t, "an idle backend", is(0, 0, false))
	g.always(backend.Outage)
	r.auth("eve", "good")
	eventually(t, "an open breaker", is(0, 0, true))
	if n := r.metric("backend_answers_total", "class", "outage"); n != 1 {
		t.Errorf("%v outages", n)
	}
}

// TestCountsOutliveAReload: what a listener has counted stays, and restarts of actors are counted.
func TestCountsOutliveAReload(t *testing.T) {
	f := new(faults)
	r := newRig(t, func(s *setup) { s.inject = f.inject })
	sockets := r.reload(func(c *config.Config) { c.Listeners = []config.Listener{listenerBlock("generic")} })
	address := sockets["generic"].Addr().String()
	r.settled(f)
	f.arm("domain:dom.example$", "Call", 1)
	r.exchange(address, "auth:joe:dom.example:good\n")
	eventually(t, "the restart", func() bool { return r.counted().Restarts == 1 && r.recovered() })
	before := r.metric("decision_seconds", "front", "generic")
	r.reload(func(c *config.Config) { c.Listeners[0].Deadline += time.Second })
	r.exchange(address, "auth:joe:dom.example:good\n")
	if n := r.metric("decision_seconds", "front", "generic"); before != 1 || n != 2 {
		t.Errorf("%v and then %v answers", before, n)
	}
}

// TestCountsOfAStuckShard: a shard that hangs costs its own figures only.
func TestCountsOfAStuckShard(t *testing.T) {
	f := new(faults)
	r := newRig(t, func(s *setup) { s.inject = f.inject })
	r.auth("joe", "good")
	release := r.stuck(f, "cache0")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	c, err := r.Counts(ctx)
	if err == nil || c.Backends[rigBackend].Slots != 8 {
		t.Errorf("%v, %+v", err, c)
	}
	release()
	r.counted()
}
