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
//
// A failure that may lie in one account counts for that account, and an account for at most half of
// what opens the breaker. So no account opens it alone. For the same reason a probe that failed for
// one account lets the question of another account pass at once.
type Breaker struct {
	options  BreakerOptions
	failures map[string]int // halves of a failure in a row while closed, by account; "" is all accounts
	open     bool
	since    time.Time     // it is open
	probing  bool          // a probe is in progress
	prober   string        // its account
	suspect  string        // the account of the last probe, if that failed and the cause may lie in it
	pause    time.Duration // without jitter
	until    time.Time     // when the next probe may start
}

// NewBreaker returns a closed breaker.
func NewBreaker(o BreakerOptions) *Breaker {
	o.Failures = cmp.Or(o.Failures, 5)
	o.Cooldown = cmp.Or(o.Cooldown, time.Second)
	return &Breaker{options: o, failures: map[string]int{}}
}

// Open reports whether only probes pass.
func (b *Breaker) Open() bool { return b.open }

// Since returns since when it is open; zero if it is not.
func (b *Breaker) Since() time.Time { return b.since }

// Allow reports whether a question about an account may be sent now. Each true must be followed by
// a Report; a probe without one is given up after the longest pause.
func (b *Breaker) Allow(account string, now time.Time) bool {
	if !b.open {
		return true
	}
	other := b.suspect != "" && account != b.suspect && (!b.probing || b.prober == b.suspect)
	if now.Before(b.until) && !other {
		return false
	}
	b.probing, b.prober = true, account
	b.until = now.Add(maxPauses * b.options.Cooldown)
	return true
}

// Report takes the class of an answer. Outages count as failures, and Throttled opens the breaker
// at once, since every further question makes it worse. Any other answer of the backend closes
// it. Unsupported and Unsure change nothing: they may be decided without asking the backend.
// account is the account of a failure that may lie in it alone, and empty for any other failure.
func (b *Breaker) Report(class Class, account string, now time.Time) {
	switch class {
	case Outage:
		b.fail(1, account, now)
	case Throttled:
		b.fail(b.options.Failures, account, now)
	case Unsupported, Unsure:
		if b.probing {
			b.probing, b.until = false, now
		}
	default:
		clear(b.failures)
		b.open, b.since, b.probing, b.suspect, b.pause = false, time.Time{}, false, "", 0
	}
}

func (b *Breaker) fail(weight int, account string, now time.Time) {
	switch {
	case b.probing && account != "" && (b.suspect == "" || b.suspect == account):
		b.probing, b.suspect = false, account
		b.wait(now)
	case b.probing:
		b.trip(min(2*b.pause, maxPauses*b.options.Cooldown), now)
	case b.open: // the late answer to a question from before it opened
	default:
		b.failures[account] += 2 * weight
		if account != "" {
			b.failures[account] = min(b.failures[account], b.options.Failures)
		}
		sum := 0
		for _, n := range b.failures {
			sum += n
		}
		if sum >= 2*b.options.Failures {
			b.trip(b.options.Cooldown, now)
		}
	}
}

// trip opens the breaker for a pause.
func (b *Breaker) trip(pause time.Duration, now time.Time) {
	if !b.open {
		b.since = now
	}
	clear(b.failures)
	b.open, b.probing, b.suspect, b.pause = true, false, "", pause
	b.wait(now)
}

// wait begins the pause.
func (b *Breaker) wait(now time.Time) {
	pause := b.pause
	if b.options.Jitter != nil {
		pause -= time.Duration(float64(pause/4) * b.options.Jitter())
	}
	b.until = now.Add(pause)
}
