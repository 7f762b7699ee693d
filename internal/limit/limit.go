// Package limit decides which questions about passwords are not put to a backend. It is pure: the
// clock is passed in.
//
// A Table limits client addresses, and Accounts the accounts of a backend. After too many refused
// passwords within a window, no question is asked for a pause, which doubles with each refusal that
// follows and shrinks again in quiet times. The same password counts once, so a phone that retries
// an old one does not lock its user out, while a guesser needs a new one for each try. Questions
// under way count as if they were refused, so guesses that come all at once do not get past the
// limit.
//
// One count serves all domains: a client has as many guesses on the whole machine as it has at one
// domain. Each question is judged by the rules of the domain that it is for, and refusals are kept
// for the longest window that any of them asked for. A pause holds for all domains with a limit.
//
// A Budget limits postern itself. A backend such as Nextcloud slows down or blocks an address
// after too many wrong passwords, and to the backend all logins come from postern's address: one
// phone with an old password would delay all users. So the refusals that reach the backend stay
// within what it permits.
//
// Beside a shared store, the processes send each other what they have counted: see Event.
//
// Limits apply only to passwords that the cache has not seen accepted. Otherwise a guesser could
// lock out a user by guessing.
package limit

import (
	"slices"
	"time"

	"postern/internal/unixtime"
)

// Rules are the limits of a Table. The zero Rules limit nothing.
type Rules struct {
	Refusals int           // of different secrets within Window; 0: no limit
	Window   time.Duration // after which a refusal is forgotten
	First    time.Duration // the first pause; each refusal that follows doubles it
	Longest  time.Duration
	// InFlight is the number of questions that may be under way, beyond the refusals left, while
	// there is no pause. 0 keeps guesses that come all at once within the limit.
	InFlight int
}

// pause is the length of the pause at a level from 1 up.
func (r *Rules) pause(level int) time.Duration {
	p := r.First
	for ; level > 1 && p < r.Longest; level-- {
		p *= 2
	}
	return min(p, r.Longest)
}

// Decision is the answer of a limit to a question.
type Decision uint8

const (
	// Pass: it may be put. Its end is reported with Done.
	Pass Decision = iota
	// PassUncounted: it may be put, and is not counted as under way.
	PassUncounted
	// Wait: too many questions are under way. It may be put later.
	Wait
	// Blocked: there were too many refusals.
	Blocked
)

// mark is a secret that was refused.
type mark struct {
	secret uint64
	at     unixtime.Time
	from   uint64 // see Guess; 0 with addresses
	alike  uint16 // stands for the secret with all processes that count together, see Peers; 0: it is like no other
	theirs bool   // it came from another of them, so that secret is 0
}

// tally is the record of one account or address.
type tally struct {
	marks   []mark          // refused secrets, each once, the newest last
	pending []unixtime.Time // deadlines of the questions under way
	level   int             // pauses in a row
	until   unixtime.Time   // end of the last pause; the level falls from then on
	stirred unixtime.Time   // when a secret was withheld last: as long as that goes on, the level does not fall
	name    string          // for display, once there was a pause
	widest  Rules           // the largest values of the rules by which it was counted
}

// expire drops refusals after the window, and a level for each window without a refusal.
func (t *tally) expire(r *Rules, now unixtime.Time) {
	t.widest = Rules{
		Refusals: max(t.widest.Refusals, r.Refusals), Window: max(t.widest.Window, r.Window), Longest: max(t.widest.Longest, r.Longest),
	}
	r = &t.widest
	t.marks = slices.DeleteFunc(t.marks, func(m mark) bool { return !m.at.Within(r.Window, now) })
	t.pending = slices.DeleteFunc(t.pending, func(end unixtime.Time) bool {
		return end <= now || end > now.Add(MaxPending)
	})
	if t.level == 0 {
		return
	}
	since := max(t.until, t.stirred)
	quiet := now.Sub(since)
	switch {
	case -quiet > r.Longest: // the clock was set back
		t.until, t.stirred = now, 0
	case r.Window > 0 && quiet >= r.Window:
		steps := min(int64(quiet/r.Window), int64(t.level))
		t.level -= int(steps)
		t.until = since.Add(time.Duration(steps) * r.Window)
	}
}

// MaxPending is the longest time for which a question may be under way.
const MaxPending = time.Minute

// empty reports whether forgetting the tally would lose nothing.
func (t *tally) empty() bool { return len(t.marks) == 0 && len(t.pending) == 0 && t.level == 0 }

// count is the number of refused secrets within the window of r.
func (t *tally) count(r *Rules, now unixtime.Time) (n int) {
	for _, m := range t.marks {
		if m.at.Within(r.Window, now) {
			n++
		}
	}
	return n
}

func (t *tally) state() State {
	s := State{Name: t.name, Refusals: len(t.marks), Pauses: t.level}
	if t.level > 0 {
		s.Until = t.until
	}
	return s
}

// has returns the index of a refused secret, or -1.
func (t *tally) has(secret uint64) int {
	return slices.IndexFunc(t.marks, func(m mark) bool { return !m.theirs && m.secret == secret })
}

// same returns the index of the secret of a refusal, or -1. Between two of this process the bits that all processes
// know are too few.
func (t *tally) same(m mark) int {
	return slices.IndexFunc(t.marks, func(o mark) bool {
		if !o.theirs && !m.theirs {
			return o.secret == m.secret
		}
		return m.alike != 0 && o.alike == m.alike
	})
}

// admit decides about a question with the deadline end.
func (t *tally) admit(secret uint64, r *Rules, now, end unixtime.Time) Decision {
	limit := r.Refusals + r.InFlight - t.count(r, now)
	if t.level > 0 {
		if now < t.until {
			return Blocked
		}
		limit = 1
	}
	if t.has(secret) >= 0 {
		return PassUncounted
	}
	if len(t.pending) >= max(limit, 1) {
		return Wait
	}
	t.pending = append(t.pending, min(end, now.Add(MaxPending)))
	return Pass
}

// done ends a question that was admitted with Pass.
func (t *tally) done() {
	if len(t.pending) > 0 {
		t.pending = slices.Delete(t.pending, 0, 1)
	}
}

// refusedFrom reports whether secrets other than secret were refused to an address.
func (t *tally) refusedFrom(from, secret uint64) bool {
	return from != 0 && slices.ContainsFunc(t.marks, func(m mark) bool { return m.from == from && m.secret != secret })
}

// refused counts a refusal, unless the same secret was refused within the window. It reports
// whether the pauses begin with it.
func (t *tally) refused(m mark, r *Rules) (begins bool) {
	now := m.at
	if i := t.same(m); i >= 0 {
		same := &t.marks[i]
		if !m.theirs || same.at < now {
			same.at = now
		}
		if same.theirs && !m.theirs {
			same.secret, same.from, same.theirs = m.secret, m.from, false
		}
		return false
	}
	if len(t.marks) >= t.widest.Refusals {
		t.marks = slices.Delete(t.marks, 0, 1)
	}
	t.marks = append(t.marks, m)
	if t.level == 0 && t.count(r, now) < r.Refusals {
		return false
	}
	if t.level == 0 || r.pause(t.level) < r.Longest {
		t.level++
	}
	until := now.Add(r.pause(t.level))
	if m.theirs {
		until = max(until, t.until)
	}
	t.until = until
	return t.level == 1
}
