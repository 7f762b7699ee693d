package actors

import (
	"cmp"
	"slices"
	"time"
)

// Bounds of tidying.
const (
	tidyEvery  = time.Second // at most
	tidyAtOnce = 256         // tenants stopped in one round
)

// tidyPause is how long after one round of tidying the next begins.
func tidyPause(idle time.Duration) time.Duration {
	return min(max(idle/4, sweepEvery), tidyEvery)
}

// touch notes that a request came. Of two at the same moment either will do.
func (d *domain) touch(at time.Time) {
	if n := at.UnixNano(); n > d.used.Load() {
		d.used.Store(n)
	}
}

// tidy stops the actors of tenants that nobody has asked for a while, and of those idle the
// longest while there are more than should be. What only their memory knew is written to disk;
// the rest, keyed MACs and refusals, is forgotten.
func (b *Broker) tidy() {
	defer b.tenants.tidying.Store(false)
	limits := b.settings.Load().Registry
	now := time.Now()
	type candidate struct {
		tenant *tenant
		used   int64
	}
	var idle []candidate
	live := 0
	for t, d := range b.awake() {
		live++
		used := d.used.Load()
		if used > now.UnixNano() && d.used.CompareAndSwap(used, now.UnixNano()) { // the clock was set back
			used = now.UnixNano()
		}
		if !d.held() {
			idle = append(idle, candidate{t, used})
		}
	}
	slices.SortFunc(idle, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	excess := 0
	if limits.MaxLive > 0 {
		excess = live - limits.MaxLive
	}
	if !b.shape.TryLock() { // a reload is under way: the next round will do
		return
	}
	defer b.shape.Unlock()
	for i, c := range idle[:min(len(idle), tidyAtOnce)] {
		if i >= excess && (limits.Idle == 0 || now.UnixNano()-c.used < int64(limits.Idle)) {
			break
		}
		b.sleep(c.tenant, c.used)
	}
}

// sleep takes a tenant's actors out of use, if nothing is in flight there and nothing came after
// used. Who asks meanwhile waits for the next ones. The caller holds shape.
func (b *Broker) sleep(t *tenant, used int64) {
	t.mu.Lock()
	d := t.live.Swap(nil)
	if d == nil || d.used.Load() > used || !d.retireUnheld() {
		t.live.Store(d)
		t.mu.Unlock()
		return
	}
	t.last = d
	b.tenants.awake.Add(-1)
	t.mu.Unlock()
	b.log.Debug("registered domain is idle", "domain", t.name)
	d.ended()
}
