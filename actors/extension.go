package actors

import (
	"sync/atomic"
	"time"

	"postern/internal/auth"
)

// extension is the question about an address with an extension, such as alice+news: it exists if
// there is a user of that whole name, or one of the name before the delimiter. Both are asked
// about at once, and the caches remember each by itself.
type extension struct {
	outer *Call // in the ring of its connection, which logs and counts it
	whole Call
	base  Call
	left  atomic.Int32 // answers that are missing
	late  *time.Timer  // the backstop of the halves, as the sweeper is that of the whole
}

// routeBoth sends a call whose request has a base on its ways.
func (b *Broker) routeBoth(c *Call, defaultDomain string) {
	e := &extension{outer: c}
	e.left.Store(2)
	for _, half := range []*Call{&e.whole, &e.base} {
		half.Req, half.Received, half.Deadline = c.Req, c.Received, c.Deadline
		half.asker, half.broker, half.front = e, b, c.front
		half.Req.Base = ""
	}
	e.base.Req.User = c.Req.Base
	e.late = time.AfterFunc(time.Hour, func() {
		e.whole.Fail(auth.SourceDeadline)
		e.base.Fail(auth.SourceDeadline)
	})
	e.late.Reset(time.Until(c.Deadline)) // not before its place is known
	for _, half := range []*Call{&e.whole, &e.base} {
		if b.prepare(half, defaultDomain) {
			b.route(half)
		}
	}
}

// answered implements asker.
func (e *extension) answered(half *Call) {
	last := e.left.Add(-1) == 0
	switch {
	case half.answer.Verdict == auth.Allow:
		e.outer.Answer(half.answer)
	case last && e.base.answer.Verdict == auth.Deny:
		e.outer.Answer(e.whole.answer)
	case last:
		e.outer.Answer(e.base.answer)
	}
	if last {
		e.late.Stop()
	}
}
