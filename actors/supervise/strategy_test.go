package supervise

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

func testStrategy() *strategy { return newStrategy(Options{Log: quietLog}) }

func TestPauses(t *testing.T) {
	s := testStrategy()
	cases := []struct {
		failures int
		longest  time.Duration
	}{
		{0, 0}, {1, 0}, {2, 10 * time.Millisecond}, {3, 20 * time.Millisecond}, {4, 40 * time.Millisecond},
		{10, 2560 * time.Millisecond}, {11, 5 * time.Second}, {12, 5 * time.Second},
		{64, 5 * time.Second}, {1000, 5 * time.Second}, // where a shift would overflow
	}
	for _, c := range cases {
		seen := make(map[time.Duration]bool)
		for range 200 {
			p := s.pause(c.failures)
			seen[p] = true
			if p < c.longest/2 || p > c.longest {
				t.Fatalf("after %d failures the pause is %v, want %v to %v", c.failures, p, c.longest/2, c.longest)
			}
		}
		if c.longest > 0 && len(seen) < 10 {
			t.Errorf("after %d failures the pause has no jitter", c.failures)
		}
	}
}

// overseer notes what a strategy does to its children.
type overseer struct {
	restarted int
	other     []string
}

func (*overseer) Children() []*actor.PID          { return nil }
func (o *overseer) EscalateFailure(_, _ any)      { o.other = append(o.other, "escalated") }
func (o *overseer) RestartChildren(...*actor.PID) { o.restarted++ }
func (o *overseer) StopChildren(...*actor.PID)    { o.other = append(o.other, "stopped") }
func (o *overseer) ResumeChildren(...*actor.PID)  { o.other = append(o.other, "resumed") }

// TestStrategyNeverGivesUp: the library's own strategies stop a child that fails too often, or
// let the failure end the process.
func TestStrategyNeverGivesUp(t *testing.T) {
	s := testStrategy()
	var pauses []time.Duration
	s.schedule = func(d time.Duration, restart func()) { pauses = append(pauses, d); restart() }
	o, stats := new(overseer), actor.NewRestartStatistics()
	for range 300 {
		s.HandleFailure(nil, o, actor.NewPID("", "child"), stats, injected("again"), nil)
	}
	if o.restarted != 300 || len(o.other) > 0 {
		t.Errorf("restarted %d times of 300, and %v", o.restarted, o.other)
	}
	if len(pauses) < 290 || pauses[0] >= s.most/2 || pauses[40] < s.most/2 {
		t.Errorf("%d pauses, the first %v, the 41st %v", len(pauses), pauses[0], pauses[40])
	}
	if n := stats.FailureCount(); n > maxFailures {
		t.Errorf("%d failures are kept", n)
	}
}

func TestStrategyForgets(t *testing.T) {
	s := testStrategy()
	s.memory = time.Nanosecond
	s.schedule = func(d time.Duration, _ func()) { t.Errorf("a pause of %v after a failure long ago", d) }
	o, stats := new(overseer), actor.NewRestartStatistics()
	for range 20 {
		s.HandleFailure(nil, o, actor.NewPID("", "child"), stats, injected("again"), nil)
		for begun := time.Now(); time.Since(begun) <= s.memory; { // until the clock has moved
		}
	}
	if o.restarted != 20 {
		t.Errorf("restarted %d times", o.restarted)
	}
}

// TestPanicsAtTheEnd: in the library a panic in Stopping brings the actor back, and one in
// Stopped lets its parent wait for ever.
func TestPanicsAtTheEnd(t *testing.T) {
	for _, kind := range []string{"Stopping", "Stopped"} {
		t.Run(kind, func(t *testing.T) {
			var mu sync.Mutex
			var kinds []string
			c := &carrier{panics: map[string]bool{kind: true}, note: func(k string) {
				mu.Lock()
				defer mu.Unlock()
				kinds = append(kinds, k)
			}}
			r := newRig(t, 10, c)
			r.ref.Stop()
			r.ref.Stop()
			r.ends(r.ref)
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(kinds, " "); got != "Started Stopping Stopped" {
				t.Errorf("its life was %s", got)
			}
		})
	}
}

// TestPanicInRestarting: the actor is restarted all the same, and once.
func TestPanicInRestarting(t *testing.T) {
	r := newRig(t, 10, &carrier{panics: map[string]bool{"Restarting": true}})
	send(r, &parcel{panics: 1})
	after := send(r, new(must))
	eventually(t, "work after the restart", after.handled)
	if n := r.ref.Restarts(); n != 1 {
		t.Errorf("%d restarts", n)
	}
}

// TestPanicInStarted: an actor that cannot start is tried again and again, and what waits for it
// is not lost.
func TestPanicInStarted(t *testing.T) {
	var mu sync.Mutex
	left := 5
	r := newRigWith(t, 10, &carrier{}, Options{Log: quietLog, Inject: func(name string, message any) {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := message.(*actor.Started); ok && left > 0 {
			left--
			panic(injected(name))
		}
	}})
	rest := send(r, new(must))
	for range 4 { // the first comes at once
		r.restart()
	}
	eventually(t, "work after the restarts", rest.handled)
	if n := r.ref.Restarts(); n != 5 {
		t.Errorf("%d restarts", n)
	}
}

// TestSecretsStayOutOfTheLog: neither a panic's value nor the message in hand is logged, by the
// kernel or by the library.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := newRigWith(t, 10, &carrier{}, Options{Log: log})
	send(r, func(*carrier) { panic("the password is hunter2") })
	after := send(r, new(must))
	eventually(t, "work after the restart", after.handled)
	r.lib.Root.Send(r.lib.NewLocalPID("nothing"), "the password is hunter2")
	r.lib.Logger().Error("by the library", "message", "hunter2", "reason", "hunter2")
	r.lib.Logger().With("message", "hunter2").WithGroup("g").Error("again", "sender", "hunter2", "pid", "shown")
	mu.Lock()
	defer mu.Unlock()
	text := out.String()
	if strings.Contains(text, "hunter2") {
		t.Errorf("the log has it: %s", text)
	}
	for _, part := range []string{`msg="actor panicked and will be restarted" actor=carrier panic="value of type string" stack=`,
		`msg="restarting actor" actor=carrier pause=0s`, `msg="by the library"`, "g.pid=shown"} {
		if !strings.Contains(text, part) {
			t.Errorf("the log lacks %s: %s", part, text)
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestPanicText: a recovered value may quote a message, so most are not shown.
func TestPanicText(t *testing.T) {
	out := func() (reason any) {
		defer func() { reason = recover() }()
		var list []int
		return list[len(t.Name())]
	}()
	cases := map[string]any{
		"value of type string":                                 "the password is hunter2",
		"value of type *errors.errorString":                    errors.New("the password is hunter2"),
		"injected: here":                                       injected("here"),
		"runtime error: index out of range [13] with length 0": out,
	}
	for want, reason := range cases {
		if got := PanicText(reason); got != want {
			t.Errorf("%v is shown as %q, want %q", reason, got, want)
		}
	}
}
