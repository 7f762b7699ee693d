package supervise

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// strategy restarts a failed actor at once the first time, then after a pause that
// doubles with each failure up to a cap. It never stops an actor, since nothing would
// start it again, and never escalates, since that ends the process at a guardian.
type strategy struct {
	log      *slog.Logger
	first    time.Duration // pause before the second restart
	most     time.Duration // cap
	memory   time.Duration // failures older than this are forgotten
	schedule func(time.Duration, func())
}

var _ actor.SupervisorStrategy = (*strategy)(nil)

func newStrategy(o Options) *strategy {
	s := &strategy{
		log: o.Log, first: o.FirstPause, most: o.MaxPause, memory: 10 * time.Second,
		schedule: func(d time.Duration, f func()) { time.AfterFunc(d, f) },
	}
	if s.first == 0 {
		s.first = 10 * time.Millisecond
	}
	if s.most == 0 {
		s.most = 5 * time.Second
	}
	return s
}

// maxFailures bounds what is kept of an actor that fails for ever.
const maxFailures = 64

// HandleFailure implements actor.SupervisorStrategy. It runs on the goroutine on which the actor
// failed, and does not block.
func (s *strategy) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID,
	rs *actor.RestartStatistics, _, _ any) {
	if rs.NumberOfFailures(s.memory) == 0 || rs.FailureCount() >= maxFailures {
		rs.Reset() // the library never prunes
	}
	rs.Fail()
	pause := s.pause(rs.NumberOfFailures(s.memory))
	s.log.Warn("restarting actor", "actor", child.GetId(), "pause", pause)
	if pause == 0 {
		supervisor.RestartChildren(child)
		return
	}
	s.schedule(pause, func() { supervisor.RestartChildren(child) })
}

// pause is the wait before the restart that follows the n-th recent failure: with jitter
// of half its length, so that actors felled by one cause do not rise together.
func (s *strategy) pause(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	d := s.most
	if shift := n - 2; shift < 20 && s.first<<shift < s.most {
		d = s.first << shift
	}
	return d/2 + rand.N(d/2+1)
}

// safe wraps an actor so that a panic in a lifecycle message neither resurrects a
// stopping actor nor leaves Stopped open for ever.
type safe struct {
	actor.Actor
	ref *Ref
}

// Receive implements actor.Actor.
func (s *safe) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *heartbeat:
		m.beat()
		return
	case *actor.Stopped:
		defer s.ref.hasStopped()
		defer s.ref.recovered()
	case *actor.Stopping, *actor.Restarting:
		defer s.ref.recovered()
	}
	if inject := s.ref.system.inject; inject != nil {
		inject(s.ref.name, ctx.Message())
	}
	s.Actor.Receive(ctx)
}
