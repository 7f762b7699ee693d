package token

import "time"

// defaultReplayNonces bounds a Replay where no bound is given: some 10 MB.
const defaultReplayNonces = 100_000

// Replay remembers the used one-time tokens, each until its one-time password has expired.
// mod_auth_token itself keeps those of one step per address, so that using a second token re-opens
// the first.
//
// A one-time password that comes back by chance in a later step (one in 100 million for each)
// makes its tokens valid again, because the signature does not cover the step.
//
// It fails closed: when it is full it accepts no new token rather than forget one, and
// when the clock goes back it refuses every token of the steps that it has forgotten.
//
// A Replay is not safe for concurrent use.
type Replay struct {
	max    int
	count  int
	steps  map[int64]map[[32]byte]struct{} // nonces by their expiry, of which there are a few
	next   int64                           // the earliest time in steps
	closed int64                           // tokens that expire up to here are refused
}

// NewReplay returns an empty memory for at most limit nonces; 0 or less means 100000.
// One takes about 100 bytes and lives for up to 90 seconds.
func NewReplay(limit int) *Replay {
	if limit <= 0 {
		limit = defaultReplayNonces
	}
	return &Replay{max: limit, steps: map[int64]map[[32]byte]struct{}{}}
}

// Use notes n, which Verify returned at the time now, and reports whether this is its
// first use. full means that n is not known to have been used but could not be noted, so it
// must be refused as well.
func (r *Replay) Use(n Nonce, now time.Time) (fresh, full bool) {
	r.forget(now.Unix())
	_, seen := r.find(n.ID)
	switch {
	case seen:
		// Two steps may have one one-time password; then the token lives longer.
		r.keep(n)
		return false, false
	case n.Expires <= max(r.closed, now.Unix()):
		return false, false
	case r.count >= r.max:
		return false, true
	}
	r.keep(n)
	return true, false
}

// Restore notes a nonce that was used before a restart. One that does not fit closes
// its step and all earlier ones instead.
func (r *Replay) Restore(n Nonce) {
	if _, known := r.find(n.ID); !known && r.count >= r.max {
		r.closed = max(r.closed, n.Expires)
		return
	}
	r.keep(n)
}

// find returns the expiry of a nonce.
func (r *Replay) find(id [32]byte) (expires int64, known bool) {
	for expires, ids := range r.steps {
		if _, known := ids[id]; known {
			return expires, true
		}
	}
	return 0, false
}

// keep notes n, or its later expiry.
func (r *Replay) keep(n Nonce) {
	old, known := r.find(n.ID)
	switch {
	case known && old >= n.Expires:
		return
	case known:
		delete(r.steps[old], n.ID)
		r.count--
	}
	if len(r.steps) == 0 || n.Expires < r.next {
		r.next = n.Expires
	}
	ids := r.steps[n.Expires]
	if ids == nil {
		ids = map[[32]byte]struct{}{}
		r.steps[n.Expires] = ids
	}
	ids[n.ID] = struct{}{}
	r.count++
}

// forget drops expired steps. A single map from which single nonces were removed would, over hours,
// grow to several times its content. Unless a step has ended, this costs one comparison.
func (r *Replay) forget(now int64) {
	if len(r.steps) == 0 || now < r.next {
		return
	}
	next := int64(0)
	for expires, ids := range r.steps {
		if expires > now {
			if next == 0 || expires < next {
				next = expires
			}
			continue
		}
		r.count -= len(ids)
		delete(r.steps, expires)
		r.closed = max(r.closed, expires)
	}
	r.next = next
}
