package slots

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"postern/actors/supervise"
	"postern/internal/auth"
)

// openBreaker is why a question was not put to a backend whose breaker is open. It wraps errBreaker.
type openBreaker struct {
	since, now time.Time
	cause      error // of the last failure; may be nil
}

// Error says since when, for how long, and why.
func (o *openBreaker) Error() string {
	text := fmt.Sprintf("%v since %s (%v)", errBreaker, o.since.Format(time.DateTime), o.now.Sub(o.since).Round(time.Second))
	if o.cause != nil {
		text += ": " + o.cause.Error()
	}
	return text
}

// Unwrap implements errors.Is.
func (o *openBreaker) Unwrap() error { return errBreaker }

// leftAlone answers a question that the open breaker keeps from the backend.
func (s *slots) leftAlone(q *Question) {
	why := &openBreaker{since: s.state.Since(), now: time.Now(), cause: s.cause}
	q.trace(s.Name, why.Error())
	q.outage(why, auth.SourceBackend)
}

// maxCauses bounds how many causes have a throttle of their own.
const maxCauses = 16

// causes keeps the repeated failures of a backend from filling the log. The first 16 causes since the breaker
// closed are each logged at once; further ones share a throttle. The zero value is ready. It is safe for
// concurrent use.
type causes struct {
	mu    sync.Mutex
	known map[string]*supervise.LogThrottle
	other supervise.LogThrottle // of those beyond maxCauses
}

// due is LogThrottle.Due for a cause. Causes that differ by their numbers only, such as ports, are one.
func (c *causes) due(cause error, now time.Time) (suppressed int64, ok bool) {
	if cause == nil {
		cause = errUnknown
	}
	kind := strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, cause.Error())
	c.mu.Lock()
	throttle := c.known[kind]
	if throttle == nil && len(c.known) < maxCauses {
		if c.known == nil {
			c.known = make(map[string]*supervise.LogThrottle)
		}
		throttle = new(supervise.LogThrottle)
		c.known[kind] = throttle
	}
	c.mu.Unlock()
	if throttle == nil {
		throttle = &c.other
	}
	return throttle.Due(now)
}

// errUnknown stands for a failure without a cause.
var errUnknown = errors.New("unknown")

// clear makes every cause a new one.
func (c *causes) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
}
