package supervise

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

// TestDispatcherKeepsGoroutines: what is run one after another runs on few goroutines.
func TestDispatcherKeepsGoroutines(t *testing.T) {
	before := goleak.IgnoreCurrent()
	d := newDispatcher()
	ids := make(map[string]bool)
	for range 500 {
		done := make(chan string)
		d.schedule(func(*Runner) { done <- goroutineID() })
		ids[<-done] = true
	}
	if len(ids) > 100 {
		t.Errorf("500 runs took %d goroutines", len(ids))
	}
	d.Close()
	goleak.VerifyNone(t, before)
}

// goroutineID begins with the goroutine's number.
func goroutineID() string {
	buf := make([]byte, 32)
	return string(buf[:runtime.Stack(buf, false)])
}

// TestDispatcherNeverWaits: as many run at once as are scheduled, only so many goroutines stay
// when they have ended, and it works on without any after Close.
func TestDispatcherNeverWaits(t *testing.T) {
	const many = 3 * idleGoroutines
	before := goleak.IgnoreCurrent()
	d := newDispatcher()
	burst := func() {
		t.Helper()
		var ran atomic.Int64
		var wg sync.WaitGroup
		all := make(chan struct{})
		for range many {
			wg.Add(1)
			d.schedule(func(*Runner) {
				defer wg.Done()
				if ran.Add(1) == many {
					close(all)
				}
				<-all // all run at once, or none ends
			})
		}
		wg.Wait()
	}
	base := runtime.NumGoroutine()
	burst()
	eventually(t, "the surplus to go", func() bool { return runtime.NumGoroutine()-base <= idleGoroutines })
	eventually(t, "the others to stay", func() bool { return d.Len() == idleGoroutines })
	burst()
	d.Close()
	goleak.VerifyNone(t, before)
	burst()
	goleak.VerifyNone(t, before)
}
