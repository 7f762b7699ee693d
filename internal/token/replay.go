package token

import "time"

// defaultReplayNonces bounds a Replay where no bound is given: some 10 MB.
const defaultReplayNonces = 100_000

// Replay remembers the one-time tokens that were used, each until it could not be used
// again anyway, whenever it was used. mod_auth_token itself keeps those of one step per
// address, so that using a second token re-opens the first (PROTOCOLS 5.2).
//
// What it cannot know: a one-time password that comes back by chance in a later step
// (one in 100 million for each) makes its tokens good again, because the signature does
// not cover the step.
//
// It fails closed: when it is full it takes no new token rather than forget one, and
// when the clock goes back it refuses every token of the steps that it has forgotten.
//
// A Replay is not safe for concurrent use.
type Replay struct {
	max    int
	used   map[[32]byte]int64   // nonce -> when it can be forgotten
	due    map[int64][][32]byte // the same by time; a few steps at once
	next   int64                // the earliest time in due
	closed int64                // tokens that expire up to here are refused
}

// NewReplay returns an empty memory for at most limit nonces; 0 or less means 100000.
// One takes about 100 bytes and lives for up to 90 seconds.
func NewReplay(limit int) *Replay {
	if limit <= 0 {
		limit = defaultReplayNonces
	}
	return &Replay{max: limit, used: map[[32]byte]int64{}, due: map[int64][][32]byte{}}
}

// Use notes n, which Verify returned at the time now, and reports whether this is its
// first use. full means that it is not known to have been used, but that it could not
// be noted, so it must be refused all the same.
func (r *Replay) Use(n Nonce, now time.Time) (fresh, full bool) {
	r.forget(now.Unix())
	_, seen := r.used[n.ID]
	switch {
	case seen:
		// Two steps may have one one-time password; then the token lives longer.
		r.keep(n)
		return false, false
	case n.Expires <= max(r.closed, now.Unix()):
		return false, false
	case len(r.used) >= r.max:
		return false, true
	}
	r.keep(n)
	return true, false
}

// Restore notes a nonce that was used before a restart. One that does not fit closes
// its step and all earlier ones instead.
func (r *Replay) Restore(n Nonce) {
	if _, known := r.used[n.ID]; !known && len(r.used) >= r.max {
		r.closed = max(r.closed, n.Expires)
		return
	}
	r.keep(n)
}

// Snapshot returns the nonces that are still needed at the time now, in no order.
func (r *Replay) Snapshot(now time.Time) []Nonce {
	r.forget(now.Unix())
	all := make([]Nonce, 0, len(r.used))
	for id, expires := range r.used {
		all = append(all, Nonce{id, expires})
	}
	return all
}

// Len is the number of nonces held.
func (r *Replay) Len() int { return len(r.used) }

// keep notes n, or that it has to be kept for longer.
func (r *Replay) keep(n Nonce) {
	if old, known := r.used[n.ID]; known && old >= n.Expires {
		return
	}
	r.used[n.ID] = n.Expires
	if len(r.due) == 0 || n.Expires < r.next {
		r.next = n.Expires
	}
	r.due[n.Expires] = append(r.due[n.Expires], n.ID)
}

// forget drops what has expired. It looks at more than one number only when a step has
// ended.
func (r *Replay) forget(now int64) {
	if len(r.due) == 0 || now < r.next {
		return
	}
	next := int64(0)
	for expires, ids := range r.due {
		if expires > now {
			if next == 0 || expires < next {
				next = expires
			}
			continue
		}
		for _, id := range ids {
			if r.used[id] == expires { // else it is kept for longer
				delete(r.used, id)
			}
		}
		delete(r.due, expires)
		r.closed = max(r.closed, expires)
	}
	r.next = next
}
