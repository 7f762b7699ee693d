package backend

import (
	"slices"
	"sync"
	"time"
)

// keptFor is how long a connection is kept without use. Most servers keep it for less.
const keptFor = 90 * time.Second

// httpPool is the connections that are kept for the next questions, the latest used on top, so
// that those beyond need expire. It is safe for concurrent use.
type httpPool struct {
	mu     sync.Mutex
	most   int
	kept   []*httpConn
	timer  *time.Timer // sweeps; nil while nothing is kept
	closed bool
}

// take returns a connection that the server keeps open, too; nil: there is none.
func (p *httpPool) take(now time.Time) *httpConn {
	for {
		l := p.pop()
		if l == nil || now.Sub(l.asked) < keptFor && l.idle() {
			return l
		}
		l.close()
	}
}

func (p *httpPool) pop() *httpConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.kept) - 1
	if last < 0 {
		return nil
	}
	l := p.kept[last]
	p.kept[last] = nil
	p.kept = p.kept[:last]
	return l
}

// put keeps a connection after an exchange that left it clean, or closes it if there are enough.
func (p *httpPool) put(l *httpConn) {
	if !p.keep(l) {
		l.close()
	}
}

func (p *httpPool) keep(l *httpConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.kept) >= p.most {
		return false
	}
	p.kept = append(p.kept, l)
	if p.timer == nil {
		p.timer = time.AfterFunc(keptFor, func() { p.sweep(time.Now()) })
	}
	return true
}

// sweep closes what has been kept for too long, and comes again while anything is kept.
func (p *httpPool) sweep(now time.Time) {
	for _, l := range p.expire(now) {
		l.close()
	}
}

func (p *httpPool) expire(now time.Time) (old []*httpConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = slices.DeleteFunc(p.kept, func(l *httpConn) bool {
		expired := now.Sub(l.asked) >= keptFor
		if expired {
			old = append(old, l)
		}
		return expired
	})
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if len(p.kept) > 0 {
		oldest := slices.MinFunc(p.kept, func(a, b *httpConn) int { return a.asked.Compare(b.asked) })
		p.timer = time.AfterFunc(keptFor-now.Sub(oldest.asked), func() { p.sweep(time.Now()) })
	}
	return old
}

// close closes what is kept. What is in use will not be kept.
func (p *httpPool) close() {
	p.mu.Lock()
	kept := p.kept
	p.kept, p.closed = nil, true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	for _, l := range kept {
		l.close()
	}
}
