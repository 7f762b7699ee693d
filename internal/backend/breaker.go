package backend

import (
	"cmp"
	"time"
)

// BreakerOptions configure a Breaker.
type BreakerOptions struct {
	// Failures is how many outages in a row open the breaker; 0 means 5.
	Failures int
	// Cooldown is the first pause of an open breaker; 0 means a second. Each failed probe doubles
	// it, up to ten times as long.
	Cooldown time.Duration
	// Jitter returns a number from 0 up to 1 that shortens a pause by up to a quarter, so that
	// several brokers do not probe in step. Nil means no jitter.
	Jitter func() float64
}

// maxPauses bounds a pause, in units of the first one.
const maxPauses = 10

// Breaker decides whether a failing backend is asked. Some outages in a row, or one Throttled
// answer, open it. While it is open, no question passes, except one probe after each pause: its
// outcome closes the breaker or doubles the pause. It has no clock of its own. It is not safe for
// concurrent use.
type Breaker struct {
	options  BreakerOptions
	failures int // in a row, while closed
	open     bool
	probing  bool          // a probe is in progress
	pause    time.Duration // without jitter
	until    time.Time     // when the next probe may start
}

// NewBreaker returns a closed breaker.
func NewBreaker(o BreakerOptions) *Breaker {
	o.Failures = cmp.Or(o.Failures, 5)
	o.Cooldown = cmp.Or(o.Cooldown, time.Second)
	return &Breaker{options: o}
}

// Open reports whether only probes pass.
func (b *Breaker) Open() bool { return b.open }

// Allow reports whether a question may be sent now. Each true must be followed by a Report; a
// probe without one is given up after the longest pause.
func (b *Breaker) Allow(now time.Time) bool {
	if !b.open {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.probing = true
	b.until = now.Add(maxPauses * b.options.Cooldown)
	return true
}

// Report takes the class of an answer. Outages count as failures, and Throttled opens the breaker
// at once, since every further question makes it worse. Any other answer of the backend closes
// it. Unsupported and Unsure change nothing: they may be decided without asking the backend.
func (b *Breaker) Report(class Class, now time.Time) {
	switch class {
	case Outage:
		b.fail(1, now)
	case Throttled:
		b.fail(b.options.Failures, now)
	case Unsupported, Unsure:
		if b.probing {
			b.probing, b.until = false, now
		}
	default:
		b.failures, b.open, b.probing, b.pause = 0, false, false, 0
	}
}

func (b *Breaker) fail(weight int, now time.Time) {
	switch {
	case b.probing:
		b.trip(min(2*b.pause, maxPauses*b.options.Cooldown), now)
	case b.open: // the late answer to a question from before it opened
	default:
		if b.failures += weight; b.failures >= b.options.Failures {
			b.trip(b.options.Cooldown, now)
		}
	}
}

// trip opens the breaker for a pause.
func (b *Breaker) trip(pause time.Duration, now time.Time) {
	b.failures, b.open, b.probing, b.pause = 0, true, false, pause
	if b.options.Jitter != nil {
		pause -= time.Duration(float64(pause/4) * b.options.Jitter())
	}
	b.until = now.Add(pause)
}
