package front

import (
	"sync/atomic"
	"time"

	"postern/actors/call"
	"postern/actors/supervise"
	"postern/internal/auth"
)

// subaddress is the question about an address with an extension, such as alice+news: it exists if
// there is a user of that whole name, or one of the name before the delimiter. Both are asked
// about at once, and the caches remember each by itself. If the answer is to name the account, it is
// the user of the whole name where there is one, so the base's yes waits for the other answer.
type subaddress struct {
	outer *call.Call // in the ring of its connection, which logs and counts it
	whole call.Call
	base  call.Call
	left  atomic.Int32 // answers that are missing
	timer *time.Timer  // the backstop of the halves, as Sweep is that of the outer call
}

// routeSubaddress sends both halves of a call with a base on their ways.
func (c *conn) routeSubaddress(run *supervise.Runner, outer *call.Call) {
	q := &subaddress{outer: outer}
	q.left.Store(2)
	halves := [...]*call.Call{&q.whole, &q.base}
	for _, half := range halves {
		half.Req, half.Received, half.Deadline = outer.Req, outer.Received, outer.Deadline
		half.Asker, half.Front = q, outer.Front
		half.Req.Base = ""
	}
	q.base.Req.User = outer.Req.Base
	q.timer = time.AfterFunc(time.Hour, func() {
		q.whole.Unavailable(auth.SourceDeadline)
		q.base.Unavailable(auth.SourceDeadline)
	})
	q.timer.Reset(time.Until(outer.Deadline)) // not before q.timer is set
	for _, half := range halves {
		if c.server.router.Prepare(half, c.params.DefaultDomain) {
			c.server.router.Route(run, half)
		}
	}
}

// Answered implements call.Asker.
func (q *subaddress) Answered(half *call.Call) {
	last := q.left.Add(-1) == 0
	switch {
	case half.Reply().Verdict == auth.Allow && (half == &q.whole || !half.Req.Named):
		q.outer.Answer(half.Reply())
	case last:
		q.outer.Answer(q.join(q.whole.Reply(), q.base.Reply()))
	}
	if last {
		q.timer.Stop()
	}
}

// join returns the answer to the address when both halves have theirs.
func (q *subaddress) join(whole, base auth.Answer) auth.Answer {
	switch {
	case whole.Verdict == auth.Allow, base.Verdict == auth.Deny:
		return whole
	case q.outer.Req.Named && whole.Verdict == auth.Unavailable:
		return whole // the base's yes may name the wrong account
	}
	return base
}
