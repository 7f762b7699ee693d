// Package limit decides which questions about passwords are not put to a backend: those of a
// user or a client address with too many refusals (Table), and those that would use up what a
// backend bears of them (Budget). It is pure: the clock is passed in. What a cache knows is
// none of its business: a password that the cache has seen accepted is never limited.
package limit

import (
	"time"

	"postern/internal/unixtime"
)

// Rules say how many refusals are too many. The zero Rules limit nothing.
type Rules struct {
	Refusals int           // of different secrets within Window; 0: no limit
	Window   time.Duration // after which a refusal is forgotten
	First    time.Duration // the first pause; each refusal that follows doubles it
	Longest  time.Duration
	// InFlight is how many questions more than there are refusals left may be under way while
	// there is no pause. 0 keeps guesses that come all at once within the limit.
	InFlight int
}

// pause is how long nothing is asked at a level from 1 up.
func (r *Rules) pause(level int) time.Duration {
	p := r.First
	for ; level > 1 && p < r.Longest; level-- {
		p *= 2
	}
	return min(p, r.Longest)
}

// Decision is what a limit says to a question.
type Decision uint8

const (
	// Pass: it may be put. If it was refused or accepted, say so with Landed.
	Pass Decision = iota
	// PassUncounted: it may be put, and takes nobody's place: the same secret was refused lately.
	PassUncounted
	// Wait: others are under way whose answers come first; it may be put later.
	Wait
	// Blocked: there have been too many refusals.
	Blocked
)

// mark is a secret that was refused.
type mark struct {
	secret uint64
	at     unixtime.Time
}

// tally is what is remembered of one user or address.
type tally struct {
	marks   []mark          // refused secrets, each once, the newest last
	pending []unixtime.Time // when the questions under way are given up
	level   int             // pauses in a row
	until   unixtime.Time   // end of the last pause; the level falls from then on
	name    string          // for people, once there was a pause
}

// settle forgets what is over: refusals after the window, and a level for each window in
// which nothing was refused.
func (t *tally) settle(r *Rules, now unixtime.Time) {
	kept := t.marks[:0]
	for _, m := range t.marks {
		if m.at.Within(r.Window, now) {
			kept = append(kept, m)
		}
	}
	t.marks = kept
	waiting := t.pending[:0]
	for _, end := range t.pending {
		if end > now && end <= now.Add(MaxPending) {
			waiting = append(waiting, end)
		}
	}
	t.pending = waiting
	if t.level == 0 {
		return
	}
	quiet := now.Sub(t.until)
	switch {
	case -quiet > r.Longest: // the clock was set back, or the rules have changed
		t.until = now
	case r.Window > 0 && quiet >= r.Window:
		steps := min(int64(quiet/r.Window), int64(t.level))
		t.level -= int(steps)
		t.until = t.until.Add(time.Duration(steps) * r.Window)
	}
}

// MaxPending is the longest time for which a question may be under way.
const MaxPending = time.Minute

// empty reports whether forgetting the tally would lose nothing.
func (t *tally) empty() bool { return len(t.marks) == 0 && len(t.pending) == 0 && t.level == 0 }

func (t *tally) has(secret uint64) int {
	for i := range t.marks {
		if t.marks[i].secret == secret {
			return i
		}
	}
	return -1
}

// ask decides about a question that is given up at the moment end.
func (t *tally) ask(secret uint64, r *Rules, now, end unixtime.Time) Decision {
	room := r.Refusals + r.InFlight - len(t.marks)
	if t.level > 0 {
		if now < t.until {
			return Blocked
		}
		room = 1
	}
	if t.has(secret) >= 0 {
		return PassUncounted
	}
	if len(t.pending) >= max(room, 1) {
		return Wait
	}
	t.pending = append(t.pending, min(end, now.Add(MaxPending)))
	return Pass
}

// landed takes the end of a question that was let pass.
func (t *tally) landed() {
	if len(t.pending) > 0 {
		t.pending = append(t.pending[:0], t.pending[1:]...)
	}
}

// refused counts a refusal, unless the same secret was refused within the window. It reports
// whether the pauses begin with it.
func (t *tally) refused(secret uint64, r *Rules, now unixtime.Time) (begins bool) {
	if i := t.has(secret); i >= 0 {
		t.marks[i].at = now
		return false
	}
	if len(t.marks) >= r.Refusals {
		t.marks = append(t.marks[:0], t.marks[1:]...)
	}
	t.marks = append(t.marks, mark{secret, now})
	if t.level == 0 && len(t.marks) < r.Refusals {
		return false
	}
	if t.level == 0 || r.pause(t.level) < r.Longest {
		t.level++
	}
	t.until = now.Add(r.pause(t.level))
	return t.level == 1
}
