package actors

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
)

// strategy restarts a failed child at once the first time, then after a pause that
// doubles with each failure up to a cap. It never stops a child, since nobody would
// start it again, and never escalates, since that ends the process at a guardian.
type strategy struct {
	log      *slog.Logger
	first    time.Duration // pause before the second restart
	most     time.Duration // cap
	memory   time.Duration // failures older than this are forgotten
	schedule func(time.Duration, func())
}

var _ actor.SupervisorStrategy = (*strategy)(nil)

func newStrategy(log *slog.Logger) *strategy {
	return &strategy{
		log: log, first: 10 * time.Millisecond, most: 5 * time.Second, memory: 10 * time.Second,
		schedule: func(d time.Duration, f func()) { time.AfterFunc(d, f) },
	}
}

// mostFailures bounds what is kept of a child that fails for ever.
const mostFailures = 64

// HandleFailure implements actor.SupervisorStrategy. It runs in the supervisor and does
// not block.
func (s *strategy) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID,
	rs *actor.RestartStatistics, _, _ any) {
	if rs.NumberOfFailures(s.memory) == 0 || rs.FailureCount() >= mostFailures {
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
// stopping actor nor leaves its parent waiting for ever (ACTORS section 2).
type safe struct {
	actor.Actor
	stats *actorStats
}

// Receive implements actor.Actor.
func (s *safe) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *pulse:
		m.beat()
		return
	case *actor.Stopping, *actor.Stopped, *actor.Restarting:
		defer func() {
			if reason := recover(); reason != nil {
				s.stats.panicked(reason)
			}
		}()
	}
	s.Actor.Receive(ctx)
}

// panicText describes a recovered value without showing data that a request brought.
func panicText(reason any) string {
	switch v := reason.(type) {
	case runtime.Error:
		return v.Error()
	case injected:
		return v.Error()
	}
	return fmt.Sprintf("value of type %T", reason)
}

// injected is the panic of a fault-injection test.
type injected string

func (i injected) Error() string { return "injected: " + string(i) }

// failAll fails every request of a list that an actor held when it was restarted or
// stopped.
func failAll[R request](held []R, why auth.Source) {
	for _, r := range held {
		r.Fail(why)
	}
}
