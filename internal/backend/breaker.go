package backend

import "time"

// BreakerOptions shape a Breaker.
type BreakerOptions struct {
	// Failures is how many outages in a row open the breaker; 0 means 5.
	Failures int
	// Cooldown is the first pause of an open breaker; 0 means a second. Each failed
	// probe doubles it, up to ten times as long.
	Cooldown time.Duration
	// Jitter returns a number from 0 up to 1, by which a pause is shortened by up to a
	// quarter, so that several brokers do not probe in step. Nil means no jitter.
	Jitter func() float64
}

// breakerSteps is how many times its first length a pause may grow to.
const breakerSteps = 10

// Breaker keeps questions from a backend that does not answer: after some outages in
// a row, or at once when the backend says that it is asked too much, it is open and lets nobody through; after a pause one probe may try, whose
// outcome closes it or opens it for twice as long. It is pure: the clock is the
// caller's. It is not safe for concurrent use.
type Breaker struct {
	options BreakerOptions
	row     int           // outages in a row, while closed
	open    bool          // nobody but a probe goes through
	probing bool          // a probe is under way
	pause   time.Duration // of the present opening, without jitter
	until   time.Time     // when the next probe may start
}

// NewBreaker returns a closed breaker.
func NewBreaker(o BreakerOptions) *Breaker {
	if o.Failures <= 0 {
		o.Failures = 5
	}
	if o.Cooldown <= 0 {
		o.Cooldown = time.Second
	}
	return &Breaker{options: o}
}

// Open reports whether questions are kept from the backend.
func (b *Breaker) Open() bool { return b.open }

// Until is when an open breaker lets the next probe through.
func (b *Breaker) Until() time.Time { return b.until }

// Allow reports whether a question may be put now. Each true must be followed by a
// Report. A probe whose Report never comes is given up after the longest pause.
func (b *Breaker) Allow(now time.Time) bool {
	if !b.open {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.probing = true
	b.until = now.Add(breakerSteps * b.options.Cooldown)
	return true
}

// Report takes the class of an answer. Outages count against the backend, and throttling
// opens the breaker at once, since every further question makes it worse; any answer of the
// backend's own closes it. Unsupported and Unsure tell nothing, for they may be decided
// without the backend.
func (b *Breaker) Report(class Class, now time.Time) {
	switch class {
	case Outage:
		b.failed(1, now)
	case Throttled:
		b.failed(b.options.Failures, now)
	case Unsupported, Unsure:
		if b.probing {
			b.probing, b.until = false, now
		}
	default:
		b.row, b.open, b.probing, b.pause = 0, false, false, 0
	}
}

// failed counts an answer as so many failures.
func (b *Breaker) failed(weight int, now time.Time) {
	switch {
	case b.probing:
		b.trip(min(2*b.pause, breakerSteps*b.options.Cooldown), now)
	case b.open: // the late answer of a question from before the opening
	default:
		if b.row += weight; b.row >= b.options.Failures {
			b.trip(b.options.Cooldown, now)
		}
	}
}

// trip opens the breaker for a pause.
func (b *Breaker) trip(pause time.Duration, now time.Time) {
	b.row, b.open, b.probing, b.pause = 0, true, false, pause
	if b.options.Jitter != nil {
		pause -= time.Duration(float64(pause/4) * b.options.Jitter())
	}
	b.until = now.Add(pause)
}
