package actors

import "sync/atomic"

// lease counts who works with something that may be taken out of use while others work with
// it: a domain, its parameters, a backend. Once it is retired nobody new gets hold of it, and
// when the last holder has let go it ends, once. It costs two atomic operations and no lock.
type lease struct {
	state atomic.Int64 // number of holders, and retired
	ended func()       // called by whoever lets go last; must not block
}

// retired is the flag in a lease's state.
const retired = 1 << 62

// acquire takes hold. It is false once the lease is retired: look up what came in its place.
func (l *lease) acquire() bool {
	for {
		n := l.state.Load()
		if n >= retired {
			return false
		}
		if l.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// join takes hold for work that another holder hands on, also of a lease that is retired. It is
// false if that holder has let go meanwhile, and all is over.
func (l *lease) join() bool {
	for {
		n := l.state.Load()
		if n == retired {
			return false
		}
		if l.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release lets go.
func (l *lease) release() {
	if l.state.Add(-1) == retired {
		l.ended()
	}
}

// held reports whether anybody has hold.
func (l *lease) held() bool { return l.state.Load() != 0 }

// retireUnheld retires a lease of which nobody has hold, and leaves it to the caller to call
// ended.
func (l *lease) retireUnheld() bool { return l.state.CompareAndSwap(0, retired) }

// retire lets nobody new take hold. It may be called once.
func (l *lease) retire() {
	if l.state.Add(retired) == retired {
		l.ended()
	}
}

// retired reports whether nobody new may take hold.
func (l *lease) retired() bool { return l.state.Load() >= retired }
