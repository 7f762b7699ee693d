package supervise

import "sync/atomic"

// inlineMessages is how many messages a Runner handles before it leaves the rest to the pool.
const inlineMessages = 32

// Runner lets a goroutine, such as a connection's reader, run the actors to which it sends: this
// saves the wake-up of another goroutine. It runs one mailbox after another, never one within
// another, and at most 32 messages for each SendBy; the pool does the rest. The zero value is
// ready. It belongs to one goroutine, and only Notify may be called by others. Actors do not keep
// or use it: they have Ref.Forward.
//
// A connection's reader, whose answers are written by an actor of its own, saves that wake-up,
// too, and has all answers to what it has read leave in one write:
//
//	for {
//		run.Attend()
//		for decode(&request) {
//			router.SendBy(&run, request)
//		}
//		if run.Settle() { // an answer is there
//			writer.SendBy(&run, wake)
//		}
//		read()
//	}
//
// A goroutine that has an answer calls writer.Send(wake) only if run.Notify() is false. Settle
// comes before everything that may wait for answers, such as credits, and at the end.
type Runner struct {
	later     []*mailbox // made due while another was run
	next      int        // the first of them that was not run
	running   bool
	pooled    bool // it belongs to a goroutine of the pool, and has no bound
	left      int
	attention atomic.Uint32
}

// runMailbox runs a mailbox, and then those that this makes due.
func (r *Runner) runMailbox(m *mailbox) {
	if r.running {
		r.later = append(r.later, m)
		return
	}
	r.running, r.left = true, inlineMessages
	defer r.finish()
	m.run(r)
	for r.next < len(r.later) && (r.left > 0 || r.pooled) {
		m, r.later[r.next] = r.later[r.next], nil
		if r.next++; r.next == len(r.later) {
			r.later, r.next = r.later[:0], 0
		}
		m.run(r)
	}
}

// finish leaves the rest to the pool. It is deferred, for a goroutine that ends in a run.
func (r *Runner) finish() {
	r.leaveRest()
	r.running = false
}

// leaveRest has the pool run the mailboxes that were made due and not run yet.
func (r *Runner) leaveRest() {
	if len(r.later) == 0 {
		return
	}
	for _, m := range r.later[r.next:] {
		m.handOver()
	}
	clear(r.later)
	r.later, r.next = r.later[:0], 0
}

// What a Runner's owner does about what others have for it.
const (
	away      uint32 = iota // it must be woken up
	attending               // it looks by itself before it waits
	notified                // the same, and there is something
)

// Attend says that the owner will call Settle before it waits for anything: until then Notify
// takes the place of a wake-up.
func (r *Runner) Attend() { r.attention.CompareAndSwap(away, attending) }

// Notify says that there is something for the owner; any goroutine may call it. It is false
// if the owner does not attend: then it must be woken up.
func (r *Runner) Notify() bool {
	return r.attention.Load() != away &&
		(r.attention.CompareAndSwap(attending, notified) || r.attention.Load() == notified)
}

// Settle ends what Attend began. It reports whether Notify was called.
func (r *Runner) Settle() bool {
	return r.attention.Load() != away && r.attention.Swap(away) == notified
}
