package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gate is a store with commits that wait until the test releases them.
type gate struct {
	Store
	enter, leave chan struct{}
	commits, ops atomic.Int32
	synced       atomic.Int32
	err          error
}

func newGate(s Store) *gate {
	return &gate{Store: s, enter: make(chan struct{}), leave: make(chan struct{})}
}

func (g *gate) Apply(ops []Op, sync bool) error {
	g.enter <- struct{}{}
	<-g.leave
	g.commits.Add(1)
	g.ops.Add(int32(len(ops)))
	if sync {
		g.synced.Add(1)
	}
	if g.err != nil {
		return g.err
	}
	return g.Store.Apply(ops, sync)
}

// pass lets one commit through.
func (g *gate) pass() { <-g.enter; g.leave <- struct{}{} }

func flushed(w *WriteBehind) <-chan error {
	done := make(chan error, 1)
	w.Flush(func(err error) { done <- err })
	return done
}

// TestGroupCommitsTogether: changes that come while the disk is busy are written in one commit,
// those of one key once, and are durable when the callers that wait for them are called.
func TestGroupCommitsTogether(t *testing.T) {
	leaks(t)
	disk := open(t, t.TempDir())
	defer disk.Close()
	g := newGate(disk)
	w := NewWriteBehind(g, func(error) {})
	w.Put([]byte("cred/first"), []byte("1"))
	<-g.enter // the first is at the disk
	for i := range 8 {
		w.Put([]byte(fmt.Sprint("cred/", i)), []byte("1"))
		w.Put([]byte("cred/same"), []byte(fmt.Sprint(i)))
	}
	var waits []<-chan error
	for range maxFlushes {
		waits = append(waits, flushed(w))
	}
	if err := <-flushed(w); !errors.Is(err, ErrBusy) {
		t.Errorf("one more that waits: %v", err)
	}
	g.leave <- struct{}{}
	g.pass()
	for _, wait := range waits {
		if err := <-wait; err != nil {
			t.Fatal(err)
		}
	}
	if g.commits.Load() != 2 || g.ops.Load() != 10 || g.synced.Load() != 1 {
		t.Errorf("%d commits of %d changes, %d of them synced; want 2 of 10, and one", g.commits.Load(), g.ops.Load(), g.synced.Load())
	}
	if got, err := disk.Get([]byte("cred/same")); string(got) != "7" || err != nil {
		t.Errorf("stored %q, %v", got, err)
	}
	w.Close()
	if err := <-flushed(w); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if err := <-w.DeletePrefix([]byte("cred/")); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestGroupCommitGathers: a commit waits a moment for the callers of the one before, which come
// again when they have their answers, and is one for a change and its caller.
func TestGroupCommitGathers(t *testing.T) {
	leaks(t)
	disk := open(t, t.TempDir())
	defer disk.Close()
	g := newGate(disk)
	w := NewWriteBehind(g, func(error) {})
	defer w.Close()
	nonces := 0
	durably := func(n int) (waits []<-chan error) {
		for range n {
			nonces++
			done := make(chan error, 1)
			w.PutDurably([]byte(fmt.Sprint("nonce/", nonces)), []byte("1"), func(err error) { done <- err })
			waits = append(waits, done)
		}
		return waits
	}
	all := func(waits []<-chan error) {
		t.Helper()
		for _, wait := range waits {
			if err := <-wait; err != nil {
				t.Fatal(err)
			}
		}
	}
	waits := durably(1)
	<-g.enter
	waits = append(waits, durably(3)...)
	g.leave <- struct{}{}
	g.pass()
	all(waits)
	w.mu.Lock()
	if w.expected != 3 {
		t.Errorf("%d are expected, want the 3 of the last commit", w.expected)
	}
	w.pause = time.Hour
	w.mu.Unlock()
	waits = durably(1)
	for gathering := false; !gathering; {
		w.mu.Lock()
		gathering = w.gathering
		w.mu.Unlock()
		runtime.Gosched()
	}
	waits = append(waits, durably(2)...)
	g.pass()
	all(waits)
	w.mu.Lock()
	w.pause = time.Microsecond
	w.mu.Unlock()
	waits = durably(1) // the others do not come
	g.pass()
	all(waits)
	if g.commits.Load() != 4 || g.synced.Load() != 4 || g.ops.Load() != 1+3+3+1 {
		t.Errorf("%d commits, %d synced, %d changes; want 4, 4 and 8", g.commits.Load(), g.synced.Load(), g.ops.Load())
	}
}

// TestWriteBehindReads: a read returns what was put last, wherever that is; what is hidden is
// absent until it is shown.
func TestWriteBehindReads(t *testing.T) {
	leaks(t)
	disk := open(t, t.TempDir())
	defer disk.Close()
	g := newGate(disk)
	w := NewWriteBehind(g, func(error) {})
	key := []byte("cred/dom.example\x00joe")
	want := func(where, value string) {
		t.Helper()
		got, err := w.Get(key)
		if value == "" && !errors.Is(err, ErrNotFound) || value != "" && (string(got) != value || err != nil) {
			t.Errorf("%s: %q, %v; want %q", where, got, err, value)
		}
	}
	want("at first", "")
	w.Put(key, []byte("1"))
	want("waiting", "1")
	<-g.enter
	want("being written", "1")
	w.Put(key, []byte("2"))
	want("waiting again", "2")
	show := w.Hide([]byte("cred/dom.example\x00"))
	want("hidden", "")
	show()
	want("shown", "2")
	g.leave <- struct{}{}
	g.pass()
	want("written", "2")
	w.Put(key, nil)
	want("deleted", "")
	g.pass()
	want("deleted on disk", "")
	w.Close()
}

// TestWriteBehindDeletes: a removal takes what was put before it, written or not, and leaves what
// was put after it.
func TestWriteBehindDeletes(t *testing.T) {
	leaks(t)
	disk := open(t, t.TempDir())
	defer disk.Close()
	g := newGate(disk)
	w := NewWriteBehind(g, func(error) {})
	w.Put([]byte("cred/a\x00old"), []byte("1"))
	<-g.enter // being written
	w.Put([]byte("cred/a\x00waiting"), []byte("1"))
	w.Put([]byte("cred/b\x00other"), []byte("1"))
	done := w.DeletePrefix([]byte("cred/a\x00"))
	w.Put([]byte("cred/a\x00new"), []byte("1"))
	g.leave <- struct{}{}
	g.pass()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.Close()
	var left []string
	_ = disk.Scan([]byte("cred/"), func(key, _ []byte) bool { left = append(left, string(key)); return true })
	if got := strings.Join(left, " "); got != "cred/a\x00new cred/b\x00other" {
		t.Errorf("left: %q", got)
	}
}

// TestWriteBehindFails: a commit that fails is reported to those that wait for it, and so is the
// first that succeeds again.
func TestWriteBehindFails(t *testing.T) {
	leaks(t)
	disk := open(t, t.TempDir())
	defer disk.Close()
	g := newGate(disk)
	outcomes := make(chan error, 4)
	w := NewWriteBehind(g, func(err error) { outcomes <- err })
	g.err = errors.New("disk full")
	w.Put([]byte("cred/x"), []byte("1"))
	<-g.enter
	w.Put([]byte("cred/y"), []byte("1"))
	wait := flushed(w)
	g.leave <- struct{}{}
	g.pass()
	for range 2 {
		if err := <-outcomes; err == nil {
			t.Error("the failure is not reported")
		}
	}
	if err := <-wait; err == nil {
		t.Error("a caller that waits got no error")
	}
	g.err = nil
	w.Put([]byte("cred/x"), []byte("2"))
	g.pass()
	if err := <-outcomes; err != nil {
		t.Error(err)
	}
	w.Close()
}

// TestWriteBehindModel compares random work with a map.
func TestWriteBehindModel(t *testing.T) {
	leaks(t)
	disk := open(t, t.TempDir())
	defer disk.Close()
	w := NewWriteBehind(disk, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	model := map[string][]byte{}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		domain := string(rune('a' + random.IntN(3)))
		key := "cred/" + domain + "\x00" + fmt.Sprint(random.IntN(10))
		switch random.IntN(20) {
		case 0:
			prefix := "cred/" + domain + "\x00"
			done := w.DeletePrefix([]byte(prefix))
			for k := range model {
				if strings.HasPrefix(k, prefix) {
					delete(model, k)
				}
			}
			if random.IntN(2) == 0 {
				<-done
			} else {
				// A read before the removal is done may still see what it removes: see Hide.
				show := w.Hide([]byte(prefix))
				<-done
				show()
			}
		case 1:
			if err := <-flushed(w); err != nil {
				t.Fatal(err)
			}
		case 2, 3, 4:
			w.Put([]byte(key), nil)
			delete(model, key)
		case 5, 6, 7, 8, 9, 10:
			value := []byte(fmt.Sprint(i))
			w.Put([]byte(key), value)
			model[key] = value
		default:
			got, err := w.Get([]byte(key))
			want, known := model[key]
			if !known && !errors.Is(err, ErrNotFound) || known && (err != nil || !bytes.Equal(got, want)) {
				t.Fatalf("step %d, %q: %q, %v; want %q", i, key, got, err, want)
			}
		}
	}
	w.Close()
	n := 0
	_ = disk.Scan([]byte("cred/"), func(key, value []byte) bool {
		n++
		if !bytes.Equal(model[string(key)], value) {
			t.Errorf("%q is %q on disk", key, value)
		}
		return true
	})
	if n != len(model) {
		t.Errorf("%d records on disk, want %d", n, len(model))
	}
}

// TestWriteBehindRaces: each writer reads what it has put, whatever the others do. The race detector
// watches.
func TestWriteBehindRaces(t *testing.T) {
	leaks(t)
	disk := open(t, t.TempDir())
	defer disk.Close()
	w := NewWriteBehind(disk, func(error) {})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				key := []byte(fmt.Sprint("cred/", i, "\x00", j%5))
				w.Put(key, []byte(fmt.Sprint(j)))
				if got, err := w.Get(key); err != nil || string(got) != fmt.Sprint(j) {
					t.Errorf("got %q, %v; want %d", got, err, j)
				}
				if j%50 == 0 {
					<-flushed(w)
				}
			}
		})
	}
	wg.Wait()
	w.Close()
}
