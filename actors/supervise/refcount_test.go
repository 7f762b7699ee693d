package supervise

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestRefCount(t *testing.T) {
	ended := 0
	r := NewRefCount(func() { ended++ })
	if r.Held() || !r.Acquire() || !r.Held() || r.RetireUnheld() {
		t.Error("a count with one user")
	}
	r.Retire()
	if !r.Retired() || r.Acquire() || !r.Join() || ended != 0 {
		t.Error("a retired count with users")
	}
	r.Release()
	r.Release()
	if ended != 1 || r.Join() || r.Acquire() {
		t.Errorf("it ended %d times", ended)
	}

	r = NewRefCount(func() { ended++ })
	r.Retire()
	if ended != 2 {
		t.Error("a count without users does not end")
	}

	r = NewRefCount(func() { ended++ })
	if !r.RetireUnheld() || ended != 2 || r.Acquire() || r.Join() {
		t.Error("a count retired without its end")
	}
}

// TestRefCountEndsOnce: whatever users come and go meanwhile.
func TestRefCountEndsOnce(t *testing.T) {
	for range 200 {
		var users, ended atomic.Int64
		r := NewRefCount(func() {
			if users.Load() != 0 {
				t.Error("it ended with users")
			}
			ended.Add(1)
		})
		var wg sync.WaitGroup
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for r.Acquire() {
					users.Add(1)
					users.Add(-1)
					r.Release()
				}
			}()
		}
		r.Retire()
		wg.Wait()
		if ended.Load() != 1 {
			t.Fatalf("it ended %d times", ended.Load())
		}
	}
}
