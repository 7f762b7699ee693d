package relay

import (
	"time"

	"postern/internal/auth"
)

// maxTries is how often a request is sent at most: once, and again if the connection was lost
// before the answer.
const maxTries = 2

// absentTimeout is how long requests wait for a daemon that is restarted, or for a broker that this process
// should have started; half of their deadline, if that is longer. After it the start has failed, and the peer
// need not wait for its deadline.
const absentTimeout = 4 * time.Second

// item is one request of the peer.
type item struct {
	req      auth.Request
	deadline time.Time
	late     time.Time // the answer must be written before; zero: no limit
	tries    int
	sent     bool // to the daemon of the present connection
	done     bool
	answer   auth.Answer
}

// queue holds the requests without a written answer, in the peer's order, with the state of each.
// It does no I/O.
type queue struct {
	items []*item
	// flight holds what was sent on the present connection, in order, and has no reply yet.
	// Requests that were answered meanwhile stay in it, so that their late replies are skipped.
	flight []*item
	// giveUpAt is when waiting for a connection ends; zero: only deadlines count.
	giveUpAt time.Time
}

// add appends a request. A malformed one (refused) is answered at once.
func (q *queue) add(it *item, refused bool) {
	if refused {
		it.settle(auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed})
	}
	q.items = append(q.items, it)
}

func (it *item) settle(a auth.Answer) {
	if !it.done {
		it.done, it.answer = true, a
		it.req.Secret = auth.Secret{}
	}
}

// unsent returns the requests to send now, and marks them as sent.
func (q *queue) unsent() (list []*item) {
	for _, it := range q.items {
		if !it.sent && !it.done {
			it.sent = true
			it.tries++
			q.flight = append(q.flight, it)
			list = append(list, it)
		}
	}
	return list
}

// reply assigns the daemon's next answer to the oldest request in flight. It returns false if
// there is none. A request that a stopping daemon has not begun counts as never sent.
func (q *queue) reply(a auth.Answer) bool {
	if len(q.flight) == 0 {
		return false
	}
	it := q.flight[0]
	q.flight[0] = nil
	q.flight = q.flight[1:]
	if a.Source == auth.SourceDraining {
		it.sent = false
		it.tries--
		return true
	}
	it.settle(a)
	return true
}

// lost handles the loss of the connection. Requests in flight are sent again, once. A change is
// not: its outcome is unknown, and it is answered as unavailable.
func (q *queue) lost() {
	for _, it := range q.flight {
		if it.req.Op.Changes() || it.tries >= maxTries {
			it.settle(auth.Answer{Source: auth.SourceStopping})
		}
		it.sent = false
	}
	q.flight = nil
}

// expire answers what is past its deadline, and returns the next deadline.
func (q *queue) expire(now time.Time) (next time.Time) {
	for _, it := range q.items {
		end := it.deadline
		if !q.giveUpAt.IsZero() && q.giveUpAt.Before(end) {
			end = q.giveUpAt
		}
		switch {
		case it.done:
		case !now.Before(end):
			it.settle(auth.Answer{Source: auth.SourceDeadline})
		case next.IsZero() || end.Before(next):
			next = end
		}
	}
	return next
}

// pop removes the answered requests at the head and returns them.
func (q *queue) pop() (ready []*item) {
	n := 0
	for n < len(q.items) && q.items[n].done {
		n++
	}
	ready = q.items[:n]
	q.items = q.items[n:]
	return ready
}
