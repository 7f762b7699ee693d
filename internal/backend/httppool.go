package backend

import (
	"slices"
	"sync"
	"time"
)

// surplusPause is how long no connection is kept after one had bytes of a response that was not asked
// for. Such a server may also send them when the next request is under way, as its response.
const surplusPause = time.Hour

// idleTimeout is how long an unused connection is kept. Most servers close it earlier.
const idleTimeout = 90 * time.Second

// httpPool is a stack of idle connections: the one used last is reused first, so that those not
// needed expire. It is safe for concurrent use.
type httpPool struct {
	mu     sync.Mutex
	limit  int
	idle   []*httpConn
	timer  *time.Timer // runs expire; nil if no connection is idle
	closed bool
	// surplus is when a connection last had bytes that were not asked for.
	surplus time.Time
}

// get returns a connection that the server still keeps open, or nil; always nil if fresh is set.
func (p *httpPool) get(now time.Time, fresh bool) *httpConn {
	for !fresh {
		h := p.pop()
		if h == nil || now.Sub(h.used) < idleTimeout && h.idle() {
			return h
		}
		if h.surplus() {
			p.distrust(now)
		}
		h.close()
	}
	return nil
}

// distrust has connections used once for a while.
func (p *httpPool) distrust(now time.Time) {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.surplus = nil, now
	p.mu.Unlock()
	for _, h := range idle {
		h.close()
	}
}

func (p *httpPool) pop() *httpConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	h := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return h
}

// put keeps a connection for reuse, or closes it if the pool is full or closed.
func (p *httpPool) put(h *httpConn) {
	p.mu.Lock()
	keep := !p.closed && len(p.idle) < p.limit && h.used.Sub(p.surplus) >= surplusPause
	if keep {
		p.idle = append(p.idle, h)
		if p.timer == nil {
			p.timer = time.AfterFunc(idleTimeout, func() { p.expire(time.Now()) })
		}
	}
	p.mu.Unlock()
	if !keep {
		h.close()
	}
}

// expire closes connections past idleTimeout, and runs again when the oldest that is left
// reaches it.
func (p *httpPool) expire(now time.Time) {
	var old []*httpConn
	p.mu.Lock()
	p.idle = slices.DeleteFunc(p.idle, func(h *httpConn) bool {
		expired := now.Sub(h.used) >= idleTimeout
		if expired {
			old = append(old, h)
		}
		return expired
	})
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if len(p.idle) > 0 {
		oldest := slices.MinFunc(p.idle, func(a, b *httpConn) int { return a.used.Compare(b.used) })
		p.timer = time.AfterFunc(idleTimeout-now.Sub(oldest.used), func() { p.expire(time.Now()) })
	}
	p.mu.Unlock()
	for _, h := range old {
		h.close()
	}
}

// close closes the idle connections. Those in use are closed when they are put back.
func (p *httpPool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	for _, h := range idle {
		h.close()
	}
}
