package supervise

import "sync/atomic"

// RefCount counts the users of something that may be taken out of use while it is used: a
// domain, its parameters, a backend. Once it is retired it gets no new users, and when the
// last one releases it, it ends, once. It costs two atomic operations and no lock.
type RefCount struct {
	state atomic.Int64 // number of users, and retired
	ended func()
}

// retired is the flag in a RefCount's state.
const retired = 1 << 62

// NewRefCount returns a count without users. ended is called by the last Release after Retire,
// or by Retire if there are no users; it must not block.
func NewRefCount(ended func()) *RefCount { return &RefCount{ended: ended} }

// Acquire adds a user. It is false once the count is retired: look up what came in its place.
func (r *RefCount) Acquire() bool {
	for {
		n := r.state.Load()
		if n >= retired {
			return false
		}
		if r.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Join adds a user for work that another user hands on, also when the count is retired. It is
// false if the other has released it meanwhile, and it has ended.
func (r *RefCount) Join() bool {
	for {
		n := r.state.Load()
		if n == retired {
			return false
		}
		if r.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release removes a user.
func (r *RefCount) Release() {
	if r.state.Add(-1) == retired {
		r.ended()
	}
}

// Holders is how many users there are.
func (r *RefCount) Holders() int64 { return r.state.Load() &^ retired }

// Held reports whether there are users, or the count is retired.
func (r *RefCount) Held() bool { return r.state.Load() != 0 }

// RetireUnheld retires a count without users, and leaves the end to the caller: the func given
// to NewRefCount is not called.
func (r *RefCount) RetireUnheld() bool { return r.state.CompareAndSwap(0, retired) }

// Retire lets Acquire fail from now on. It may be called once.
func (r *RefCount) Retire() {
	if r.state.Add(retired) == retired {
		r.ended()
	}
}

// Retired reports whether the count is retired.
func (r *RefCount) Retired() bool { return r.state.Load() >= retired }
