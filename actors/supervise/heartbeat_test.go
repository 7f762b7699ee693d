package supervise

import (
	"context"
	"strings"
	"testing"
	"time"
)

// alive asks for a sign of life.
func (r *rig) alive(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.Alive(ctx)
}

func TestAlive(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	r.spawn("other", 10, &carrier{})
	for range 3 {
		if err := r.alive(20 * time.Second); err != nil {
			t.Error(err)
		}
	}
	r.ref.Stop()
	r.ends(r.ref)
	if err := r.alive(20 * time.Second); err != nil {
		t.Errorf("after the end of an actor: %v", err)
	}
}

// An actor that hangs is named, however many heartbeats it has missed; what hung for a moment
// only is forgiven.
func TestAliveNamesWhatHangs(t *testing.T) {
	r := newRig(t, 1, &carrier{})
	r.spawn("other", 10, &carrier{})
	h := send(r, newHold())
	<-h.reached
	send(r, new(parcel)) // fills the queue
	for range 2 {
		eventually(t, "an error that names this one", func() bool {
			err := r.alive(100 * time.Millisecond)
			if err == nil || !strings.Contains(err.Error(), "no sign of life from carrier") {
				t.Fatalf("the error is %v", err)
			}
			return strings.Contains(err.Error(), "from carrier: ") // not the other, which may be slow
		})
	}
	close(h.release)
	if err := r.alive(20 * time.Second); err != nil {
		t.Error(err)
	}
}

// An actor that panics and is restarted lives.
func TestAliveThroughRestarts(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	r.suspend(func() {})
	if err := r.alive(100 * time.Millisecond); err == nil {
		t.Error("an actor that waits for its restart lives")
	}
	r.restart()
	if err := r.alive(20 * time.Second); err != nil {
		t.Error(err)
	}
}
