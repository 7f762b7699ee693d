package slots

import (
	"sync/atomic"
	"time"

	"postern/internal/backend"
)

const (
	// doubtFor is how long an outage, or a strained budget, speaks against a question that need not be
	// put. After that a few questions find out.
	doubtFor = 10 * time.Second
	// freshFor is for how many service times, and how much longer, an answer shows that the backend
	// works.
	freshFor   = 4
	freshExtra = 500 * time.Millisecond
	// probeGap is the time between two questions that find out: it must show that the first is under way.
	probeGap = 20 * time.Millisecond
)

// forecast is what other goroutines may know of a backend without asking its actor. Times are
// nanoseconds since epoch, on the monotonic clock.
type forecast struct {
	epoch   time.Time
	wait    atomic.Int64 // expected of a question that comes now
	service atomic.Int64 // mean time of an answer
	good    atomic.Int64 // when the last answer came; 0: never
	outage  atomic.Int64 // when the last question failed; 0: one was answered since
	strain  atomic.Int64 // when half of the budget was found used up; 0: it is not
	probed  atomic.Int64 // when the last question that finds out was let through; 0: never
}

func (f *forecast) init() { f.epoch = time.Now() }

// now is never 0.
func (f *forecast) now() int64 { return max(int64(time.Since(f.epoch)), 1) }

// note takes the class of the answer to a question. A failure counts only if no other question was answered
// since this one was put.
func (f *forecast) note(class backend.Class, begun time.Time) {
	switch class {
	case backend.Outage, backend.Throttled:
		if !f.answeredSince(begun) {
			f.outage.Store(f.now())
		}
	case backend.Unsupported, backend.Unsure: // the backend may not have been asked
	default:
		f.good.Store(f.now())
		f.outage.Store(0)
	}
}

// answeredSince reports whether a question was answered after a time.
func (f *forecast) answeredSince(begun time.Time) bool {
	return f.good.Load() > int64(begun.Sub(f.epoch))
}

func (f *forecast) set(wait, service time.Duration, strained bool) {
	f.wait.Store(int64(wait))
	f.service.Store(int64(service))
	strain := int64(0)
	if strained {
		strain = f.now()
	}
	f.strain.Store(strain)
}

// doubtful reports whether something recent speaks against the backend.
func (f *forecast) doubtful(now int64) bool {
	recent := func(at int64) bool { return at != 0 && now-at < int64(doubtFor) }
	return recent(f.outage.Load()) || recent(f.strain.Load())
}

// fresh reports whether the backend has answered lately.
func (f *forecast) fresh(now int64) bool {
	good := f.good.Load()
	return good != 0 && now-good < int64(ample(time.Duration(f.service.Load())))
}

// ample is more time than a backend takes for an answer, by its mean.
func ample(service time.Duration) time.Duration { return freshFor*service + freshExtra }

// mayProbe reports whether it is time for a question that finds out whether the backend answers.
func (f *forecast) mayProbe(now int64) bool {
	last := f.probed.Load()
	return (last == 0 || now-last >= int64(probeGap)) && f.probed.CompareAndSwap(last, now)
}

// Expect estimates how long a login with an unknown password that comes now would take until its
// answer. ok is false if a stored hash should be compared instead where there is one: the breaker is
// open, the last answer was an outage, or half of the budget of refusals is used up; and if the
// backend has not answered lately, for all but a few questions that find out whether it does. It may be
// called from any goroutine, and does not block.
func (b *Backend) Expect() (wait time.Duration, ok bool) {
	f := &b.forecast
	now := f.now()
	wait = time.Duration(f.wait.Load())
	if b.counts.open.Load() || f.doubtful(now) {
		return wait, false
	}
	return wait, f.fresh(now) || int(b.running.Load()) < max(b.Block.MinSlots, 1) && f.mayProbe(now)
}
