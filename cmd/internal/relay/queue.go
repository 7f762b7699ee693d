package relay

import (
	"time"

	"postern/internal/auth"
)

// maxTries is how often a question is put in all: once, and once again if the daemon was lost
// before it answered.
const maxTries = 2

// absentPatience is how long requests wait for somebody to serve where an owner would be started
// if it could be: by then it cannot, and the peer is spared the wait for its deadline.
const absentPatience = 4 * time.Second

// item is one request of the peer.
type item struct {
	req      auth.Request
	deadline time.Time
	late     time.Time // its answer must be written before; zero: whenever there is one
	tries    int
	sent     bool // to the daemon of the present connection
	done     bool
	answer   auth.Answer
}

// queue is the requests of the peer whose answers have not been written, in their order, and
// what is known of each. It decides; it does no I/O.
type queue struct {
	items []*item
	// flight is what the daemon was sent on the present connection, in order, and has not
	// replied to. Items answered meanwhile stay in it: their late replies must be skipped.
	flight []*item
	// hopeless is from when on nobody is waited for; zero: while requests have time left.
	hopeless time.Time
}

// add takes a request. One that nobody may be asked about is answered at once.
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

// unsent returns what the daemon is to be asked now, and counts it as sent.
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

// reply takes the daemon's next answer. It is false if nothing was asked. A request that a
// stopping daemon did not begin with is as one that was never sent.
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

// lost takes the loss of the daemon: what it had not answered is asked again, once, but a
// change whose fate is unknown is not made twice.
func (q *queue) lost() {
	for _, it := range q.flight {
		if it.req.Op.Changes() || it.tries >= maxTries {
			it.settle(auth.Answer{Source: auth.SourceStopping})
		}
		it.sent = false
	}
	q.flight = nil
}

// expire answers what is past its deadline, and returns when the next one is.
func (q *queue) expire(now time.Time) (next time.Time) {
	for _, it := range q.items {
		end := it.deadline
		if !q.hopeless.IsZero() && q.hopeless.Before(end) {
			end = q.hopeless
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
