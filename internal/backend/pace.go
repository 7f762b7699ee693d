package backend

import (
	"cmp"
	"math"
	"time"

	"postern/internal/auth"
)

// PaceOptions configure a Pace.
type PaceOptions struct {
	// Ceiling is the most questions that may be under way at once, at least 1. A Pace begins there.
	Ceiling int
	// Floor is the number that a slow backend still gets; at most Ceiling counts.
	Floor int
}

const (
	// startService stands for the service time until an answer was measured. It is short, so that a
	// burst at the start waits for the first answer instead of being refused.
	startService = 10 * time.Millisecond
	// serviceWeight is the share of one answer in the mean of the service time.
	serviceWeight = 1. / 16
	// slowFactor and slowSlack say when an answer is slow: it took that many times what the backend
	// takes without load, and this much more. Less is scatter, or lies in this process.
	slowFactor = 3
	slowSlack  = 50 * time.Millisecond
	// recentWeight is the share of one answer in the mean of recent ones.
	recentWeight = 1. / 8
	// growIn is the time from nothing to the ceiling.
	growIn = 5 * time.Second
	// driftIn is how fast what counts as no load follows a backend that has become slower for good.
	driftIn = 3 * time.Minute
)

// Pace decides how many questions may be at a backend at once, and estimates how long one takes. A
// backend whose answers take much longer than without load gets half as many, and half of that if
// the questions that began since then are slow too, down to a floor. While answers are not slow the
// number grows, from nothing to the ceiling within 5 seconds. After an outage it begins with one
// question and doubles with each round of answers.
//
// Only acceptances are a sign of load, each compared with those of its operation: a refusal takes
// longer at some backends, and outages are the business of the Breaker. Without load means that no
// more questions than the floor were under way. So a backend that stays slow at the floor for some
// minutes is taken for one that is so by nature, and gets more again.
//
// A Pace has no clock of its own. It is not safe for concurrent use.
type Pace struct {
	floor, ceiling float64

	limit   float64
	ramping bool      // after an outage, until the ceiling or a sign of load
	since   time.Time // of the last decrease or outage: answers to older questions do not count for the next
	seen    time.Time // when the last acceptance came

	service float64 // mean in seconds
	answers float64 // in it
	speeds  map[auth.Operation]*speed
}

// speed is how long acceptances of one operation take, in seconds.
type speed struct {
	quiet  float64 // without load
	recent float64
	at     time.Time // of the last one without load
}

// Timing is how long a backend took for an answer.
type Timing struct {
	Op    auth.Operation
	Class Class
	Begun time.Time
	Took  time.Duration
	// Delay is the part of Took by which the backend slowed this process down on purpose; negative if
	// that is not known.
	Delay time.Duration
	// Alongside is how many questions were under way when it began, itself included.
	Alongside int
}

// NewPace returns a Pace at its ceiling.
func NewPace(o PaceOptions) *Pace {
	ceiling := max(o.Ceiling, 1)
	p := &Pace{ceiling: float64(ceiling), floor: float64(max(min(o.Floor, ceiling), 1)), speeds: make(map[auth.Operation]*speed)}
	p.limit = p.ceiling
	return p
}

// Limit is how many questions may be under way now: from floor to ceiling, and less after an outage.
func (p *Pace) Limit() int { return int(p.limit) }

// Service is the mean time of recent answers.
func (p *Pace) Service() time.Duration {
	return cmp.Or(time.Duration(p.service*float64(time.Second)), startService)
}

// Expect estimates the time until the answer to a question that waits for a slot, with so many others
// before it, if at most width of them may be under way at once.
func (p *Pace) Expect(before, width int) time.Duration { return p.Turn(before, width) + p.Service() }

// Turn estimates how long such a question waits.
func (p *Pace) Turn(before, width int) time.Duration {
	limit, rounds := p.limit, 0.
	for ; p.ramping && limit < p.ceiling; rounds++ {
		limit *= 2
	}
	limit = max(min(math.Floor(limit), p.ceiling, float64(width)), 1)
	return time.Duration(float64(p.Service()) * (rounds + float64(before+1)/limit))
}

// Resume begins anew after an outage, with one question beside those that are still under way.
func (p *Pace) Resume(underWay int, now time.Time) {
	p.limit, p.since = min(float64(underWay+1), p.ceiling), now
	p.ramping = p.limit < p.ceiling
}

// Report takes how long an answer took.
func (p *Pace) Report(t Timing, now time.Time) {
	switch t.Class {
	case Outage, Throttled, Unsupported, Unsure: // the server did not answer, or was not asked
		return
	}
	p.answers++
	p.service += (t.Took.Seconds() - p.service) * max(serviceWeight, 1/p.answers)
	if p.ramping && !t.Begun.Before(p.since) {
		p.limit = min(p.limit+1, p.ceiling)
		p.ramping = p.limit < p.ceiling
	}
	if latency := t.Took - t.Delay; t.Class == Accepted && t.Delay >= 0 && latency > 0 {
		p.judge(t, latency.Seconds(), now)
	}
}

// judge compares an acceptance with those without load.
func (p *Pace) judge(t Timing, latency float64, now time.Time) {
	s := p.speeds[t.Op]
	if s == nil {
		s = &speed{quiet: latency, recent: latency, at: now}
		p.speeds[t.Op] = s
	}
	slow := slowFactor*s.quiet + slowSlack.Seconds()
	latency = min(latency, 2*slow) // one answer alone is no sign
	s.recent += (latency - s.recent) * recentWeight
	if float64(t.Alongside) <= p.floor {
		s.quiet += (latency - s.quiet) * min(recentWeight, max(now.Sub(s.at).Seconds(), 0)/driftIn.Seconds())
		s.at = now
	}
	s.quiet = min(s.quiet, s.recent)
	passed := max(now.Sub(p.seen).Seconds(), 0)
	p.seen = now
	switch {
	case latency <= slow:
		if !p.ramping {
			p.limit = min(p.limit+p.ceiling*min(passed/growIn.Seconds(), 1), p.ceiling)
		}
	case s.recent > slow && !t.Begun.Before(p.since) && p.limit > p.floor:
		p.limit, p.since, p.ramping = max(p.limit/2, p.floor), now, false
	}
}
