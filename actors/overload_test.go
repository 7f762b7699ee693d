package actors

import (
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/supervise"
	"postern/internal/auth"
)

// flood asks n logins of distinct users, some at once, and counts the answers by source.
func (r *rig) flood(n, atOnce int) map[auth.Source]int {
	var mu sync.Mutex
	count := make(map[auth.Source]int)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range atOnce {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				a := <-r.start(fmt.Sprint("flood", i), "good")
				mu.Lock()
				count[a.Source]++
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return count
}

// TestOverload: behind a backend that hangs, as many requests wait as there are slots and
// places in the queue; all others are refused while those still wait.
func TestOverload(t *testing.T) {
	const slots, queue, excess = 8, 64, 2000
	g := newBarrier()
	r := newRig(t, func(s *setup) { s.fake.ask = g.ask })
	var waiting []<-chan auth.Answer
	for i := range slots + queue {
		waiting = append(waiting, r.start(fmt.Sprint("early", i), "good"))
	}
	g.reached(t, slots)
	r.underWay(slots+queue, slots)
	begun := time.Now()
	count := r.flood(excess, excess) // within the deadline of those that wait
	if count[auth.SourceOverload] != excess {
		t.Errorf("of %d answers: %v", excess, count)
	}
	t.Logf("%d requests were refused in %v", excess, time.Since(begun))
	if n := r.fake.asked.Load(); n != slots {
		t.Errorf("%d questions at the backend, want %d", n, slots)
	}
	g.open()
	for _, a := range waiting {
		r.want(<-a, auth.Allow, auth.SourceBackend)
	}
}

// quiet reports whether no listed actor has a message in its queue.
func (r *rig) quiet() bool {
	return !slices.ContainsFunc(r.env.System.Refs(), func(ref *supervise.Ref) bool { return ref.Queued() > 0 })
}

// TestOverloadKeepsMemoryFlat: ten times the refused requests need no more memory, as nothing
// may grow with their number.
func TestOverloadKeepsMemoryFlat(t *testing.T) {
	g := newBarrier()
	r := newRig(t, func(s *setup) {
		s.fake.ask = g.ask
		s.level = slog.LevelError + 1 // the log in memory would grow
	})
	defer g.open()
	for i := range 8 + 64 {
		r.start(fmt.Sprint("early", i), "good")
	}
	g.reached(t, 8)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	r.flood(2000, 200)
	few := heap() - before
	r.flood(20000, 200)
	many := heap() - before
	t.Logf("2,000 requests hold %d kB, 20,000 more %d kB", few>>10, many>>10)
	if many > 3*max(few, 0)+4<<20 {
		t.Errorf("after 2,000 refused requests the heap has grown by %d bytes, after 20,000 more by %d", few, many)
	}
}
