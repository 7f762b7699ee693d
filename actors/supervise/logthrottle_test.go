package supervise

import (
	"testing"
	"time"
)

// TestLogThrottleAfterClockJump: messages come again ten seconds after one, and at once when the
// clock was set.
func TestLogThrottleAfterClockJump(t *testing.T) {
	var l LogThrottle
	now := time.Now()
	for i, step := range []struct {
		after time.Duration
		due   bool
		held  int64
	}{
		{0, true, 0}, {time.Second, false, 0}, {LogThrottleInterval, true, 1},
		{-24 * time.Hour, true, 0}, {time.Second, false, 0}, {time.Second, false, 0}, {24 * time.Hour, true, 2},
	} {
		now = now.Add(step.after)
		if held, due := l.Due(now); due != step.due || held != step.held {
			t.Errorf("step %d: due %t after %d, want %t after %d", i, due, held, step.due, step.held)
		}
	}
}
