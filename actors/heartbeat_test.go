package actors

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/supervise"
	"postern/internal/auth"
)

// alive checks that the broker is alive.
func (r *rig) alive(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return r.Alive(ctx)
}

// TestAlive: a broker is alive as long as every actor handles its queue, whatever its backends do.
func TestAlive(t *testing.T) {
	g := newBarrier()
	r := newRig(t, func(s *setup) {
		withTokens(s)
		s.fake.ask = g.ask
	})
	r.listen(listenerBlock("generic"))
	waiting := r.start("joe", "good")
	g.reached(t, 1)
	for range 3 {
		if err := r.alive(5 * time.Second); err != nil {
			t.Errorf("with a backend that hangs: %v", err)
		}
	}
	g.open()
	r.want(<-waiting, auth.Allow, auth.SourceBackend)
	r.stop()
	if err := r.alive(300 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "sweeper") {
		t.Errorf("after its end: %v", err)
	}
}

// TestAliveNamesHangingActor: an actor that hangs is named, also by a second check, and a broker
// with an actor that goes on again is alive.
func TestAliveNamesHangingActor(t *testing.T) {
	for _, actor := range []string{"domain:dom.example", "cache", "backend."} {
		t.Run(actor, func(t *testing.T) {
			hung, release := make(chan struct{}, 64), make(chan struct{})
			var started atomic.Bool // the start asks the shards, too
			r := newRig(t, func(s *setup) {
				s.inject = func(name string, message any) {
					if _, ok := message.(supervise.Request); ok && started.Load() && strings.HasPrefix(name, actor) {
						hung <- struct{}{} // has room
						<-release
					}
				}
			})
			started.Store(true)
			answer := r.start("joe", "good")
			eventually(t, "the hang", func() bool { return len(hung) > 0 })
			for range 2 {
				err := r.alive(100 * time.Millisecond)
				if err == nil || !strings.Contains(err.Error(), "no sign of life from "+actor) || strings.Contains(err.Error(), "sweeper") {
					t.Errorf("%v", err)
				}
			}
			close(release)
			<-answer
			if err := r.alive(5 * time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAliveThroughRestarts: an actor that is restarted does not hang.
func TestAliveThroughRestarts(t *testing.T) {
	f := new(faults)
	r := newRig(t, func(s *setup) { s.inject = f.inject })
	f.arm("domain:dom.example$", "Call", 1)
	r.auth("joe", "good")
	if err := r.alive(5 * time.Second); err != nil || f.left() != 0 {
		t.Errorf("%v, %d panics to come", err, f.left())
	}
}
