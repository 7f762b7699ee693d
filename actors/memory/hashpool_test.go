package memory

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
)

func newTestPool(t *testing.T, workers, queue int) (*HashPool, *syncBuffer) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	log := new(syncBuffer)
	p := NewHashPool(workers, queue, slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	return p, log
}

// expecting has jobs of unknown work and rounds expected to take so long.
func (p *HashPool) expecting(job time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.other, p.round, p.known = job, job>>passhash.DefaultCost, true
}

// hold is where a job holds a worker up.
type hold struct {
	reached, release chan struct{}
	free             func() // closes release
}

// newHold makes a hold that is free at the latest at the test's end: a pool that closes waits for its workers.
func newHold(t *testing.T) *hold {
	h := &hold{reached: make(chan struct{}), release: make(chan struct{})}
	h.free = sync.OnceFunc(func() { close(h.release) })
	t.Cleanup(h.free)
	return h
}

// syncBuffer is a log that a test reads while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

var joe = auth.Identity{User: "joe", Domain: "dom.example"}

// TestHashPoolFair: domains take turns, and in a domain its users; jobs for nothing take no time, and leave
// before their turn.
func TestHashPoolFair(t *testing.T) {
	p, _ := newTestPool(t, 1, 100)
	h := occupied(t, p)
	order, failed := make(chan string, 100), make(chan string, 100)
	job := func(domain, user string, over func() bool) {
		name := user + "@" + domain
		j := hashJob{id: auth.Identity{User: user, Domain: domain}, run: func() { order <- name }, failed: func() { failed <- name }, over: over}
		if !p.submit(j, true) {
			t.Errorf("%s: no room", name)
		}
	}
	for range 3 {
		job("a", "victim", nil)
	}
	job("a", "other", nil)
	job("a", "gone", func() bool { return true })
	if got := <-failed; got != "gone@a" {
		t.Errorf("%s failed", got)
	}
	var over atomic.Bool
	job("a", "going", over.Load)
	job("b", "first", nil)
	over.Store(true)
	h.free()
	for _, want := range []string{"victim@a", "first@b", "other@a", "victim@a", "victim@a"} {
		if got := <-order; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := <-failed; got != "going@a" {
		t.Errorf("%s failed", got)
	}
	p.Close(context.Background())
}

// TestHashPoolKeepsPlaces: users whose logins were dropped come back in any order, after others, and have
// their turns in the order in which they came at first; a user that has had its turn comes last.
func TestHashPoolKeepsPlaces(t *testing.T) {
	p, _ := newTestPool(t, 1, 100)
	h := occupied(t, p)
	order, failed := make(chan string, 100), make(chan string, 100)
	var given atomic.Bool
	job := func(user string, over func() bool, deadline time.Time) {
		id := auth.Identity{User: user, Domain: "dom.example"}
		p.submit(hashJob{id: id, run: func() { order <- user }, failed: func() { failed <- user }, over: over, deadline: deadline}, true)
	}
	for _, user := range []string{"a", "b", "c"} {
		job(user, given.Load, time.Time{})
	}
	given.Store(true) // they are over, which is found while they wait
	for _, want := range []string{"a", "b", "c"} {
		if got := <-failed; got != want {
			t.Errorf("%s was dropped, want %s", got, want)
		}
	}
	for _, user := range []string{"late", "later"} { // which is found when it is their turn
		job(user, nil, time.Now())
	}
	job("last", nil, time.Time{})
	h.free()
	for _, want := range []string{"late", "later"} {
		if got := <-failed; got != want {
			t.Errorf("%s was dropped, want %s", got, want)
		}
	}
	if got := <-order; got != "last" {
		t.Errorf("%s, want the last", got)
	}
	h = occupied(t, p)
	for _, user := range []string{"new", "last", "later", "c", "a", "late", "a", "b", "newer"} {
		job(user, nil, time.Time{})
	}
	h.free()
	for _, want := range []string{"a", "b", "c", "late", "later", "new", "last", "newer", "a"} {
		if got := <-order; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	p.Close(context.Background())
}

// TestHashPoolDisplaces: a full queue has room for a user with few jobs, in place of one of the user
// with the most in the domain with the most.
func TestHashPoolDisplaces(t *testing.T) {
	p, _ := newTestPool(t, 1, 6)
	h := occupied(t, p)
	failed := make(chan string, 10)
	submit := func(domain, user string) bool {
		return p.submit(hashJob{id: auth.Identity{User: user, Domain: domain}, run: func() {}, failed: func() { failed <- user + "@" + domain }}, true)
	}
	for range 4 {
		submit("a", "victim")
	}
	submit("a", "other")
	submit("b", "first")
	if submit("a", "victim") {
		t.Error("there is room for one more guess")
	}
	if !submit("c", "joe") || <-failed != "victim@a" {
		t.Error("no room for another domain")
	}
	if !submit("a", "ann") || <-failed != "victim@a" {
		t.Error("no room for another user")
	}
	h.free()
	p.Close(context.Background())
	close(failed)
}

// TestHashPoolOnePerUser: guesses at one user leave workers to others.
func TestHashPoolOnePerUser(t *testing.T) {
	p, _ := newTestPool(t, 4, 100)
	block, ended := make(chan struct{}), make(chan struct{}, 100)
	for range 50 {
		p.submit(hashJob{id: joe, run: func() { <-block; ended <- struct{}{} }, failed: func() { ended <- struct{}{} }}, true)
	}
	if err := p.Run(context.Background(), auth.Identity{User: "ann", Domain: "dom.example"}, func() {}); err != nil {
		t.Error(err)
	}
	close(block)
	for range 50 {
		<-ended
	}
	p.Close(context.Background())
}

// TestHashPoolCloses: what is queued is dropped at once, and only jobs that run are waited for.
func TestHashPoolCloses(t *testing.T) {
	p, _ := newTestPool(t, 1, 100)
	h := occupied(t, p)
	var failed atomic.Int64
	for i := range 100 {
		id := auth.Identity{User: string(rune('a' + i%26)), Domain: "dom.example"}
		if !p.submit(hashJob{id: id, run: func() { t.Error("ran") }, failed: func() { failed.Add(1) }}, i%2 == 0) {
			t.Fatal("no room")
		}
	}
	closed := make(chan struct{})
	go func() { defer close(closed); p.Close(context.Background()) }()
	for failed.Load() < 100 {
		runtime.Gosched()
	}
	h.free()
	<-closed
}

// occupied submits a job that holds a worker until the test lets it go.
func occupied(t *testing.T, p *HashPool) *hold {
	h := newHold(t)
	p.submit(hashJob{run: func() { close(h.reached); <-h.release }, failed: func() {}}, true)
	<-h.reached
	return h
}

// TestHashPoolOrder: logins come before the bookkeeping that follows other logins, and both
// queues are bounded.
func TestHashPoolOrder(t *testing.T) {
	p, _ := newTestPool(t, 1, 2)
	h := occupied(t, p)
	order := make(chan string, 4)
	job := func(name string) hashJob {
		return hashJob{run: func() { order <- name }, failed: func() { order <- name + " failed" }}
	}
	for _, name := range []string{"later 1", "later 2"} {
		if !p.submit(job(name), false) {
			t.Errorf("%s was not taken", name)
		}
	}
	for _, name := range []string{"login 1", "login 2"} {
		if !p.submit(job(name), true) {
			t.Errorf("%s was not taken", name)
		}
	}
	for _, urgent := range []bool{false, true} {
		if p.submit(job("more"), urgent) {
			t.Errorf("a full queue (urgent: %t) took another job", urgent)
		}
	}
	h.free()
	for _, want := range []string{"login 1", "login 2", "later 1", "later 2"} {
		if got := <-order; got != want {
			t.Errorf("%s ran, want %s", got, want)
		}
	}
	p.Close(context.Background())
}

// TestHashPoolRun is what the users backend does.
func TestHashPoolRun(t *testing.T) {
	p, log := newTestPool(t, 1, 2)
	ran := false
	if err := p.Run(context.Background(), joe, func() { ran = true }); err != nil || !ran {
		t.Errorf("ran: %t, %v", ran, err)
	}
	h := occupied(t, p)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := p.Run(ctx, joe, func() { t.Error("ran after its time") }); ctx.Err() == nil || !errors.Is(err, passhash.ErrBusy) {
		t.Errorf("out of time: %v", err)
	}
	eventually(t, "the end of what is out of time", func() bool { return !p.loginsWait() })
	for _, id := range []auth.Identity{joe, {}} {
		p.submit(hashJob{id: id, run: func() {}, failed: func() {}}, true)
	}
	if err := p.Run(context.Background(), joe, func() { t.Error("ran beyond the bound") }); !errors.Is(err, passhash.ErrBusy) {
		t.Errorf("full: %v", err)
	}
	h.free()
	failed := make(chan struct{})
	for !p.submit(hashJob{run: func() { panic("hunter2") }, failed: func() { close(failed) }}, true) {
		runtime.Gosched() // until the worker has made room
	}
	<-failed // the worker lives on
	if err := p.Run(context.Background(), joe, func() { panic("hunter2") }); !errors.Is(err, passhash.ErrBroken) {
		t.Errorf("after a panic: %v", err)
	}
	if err := p.Run(context.Background(), joe, func() {}); err != nil {
		t.Error(err)
	}
	slow, end := context.WithCancel(context.Background())
	hold := make(chan struct{})
	if err := p.Run(slow, joe, func() { end(); <-hold }); !errors.Is(err, passhash.ErrSlow) || errors.Is(err, passhash.ErrBusy) || !passhash.NotDone(err) {
		t.Errorf("one hash alone outlives its time: %v", err)
	}
	close(hold)
	p.Close(context.Background())
	if err := p.Run(context.Background(), joe, func() {}); !errors.Is(err, passhash.ErrStopped) || !passhash.NotDone(err) {
		t.Errorf("after the end: %v", err)
	}
	if text := log.String(); !strings.Contains(text, "password hashing panicked") || strings.Contains(text, "hunter2") {
		t.Errorf("the log says %q", text)
	}
}

// TestHashPoolEnd: every job that was taken runs or is failed, once, though the pool closes
// meanwhile.
func TestHashPoolEnd(t *testing.T) {
	for range 300 {
		p, _ := newTestPool(t, 2, 4)
		var taken, ended atomic.Int64
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				<-begin
				for range 20 {
					job := hashJob{run: func() { ended.Add(1) }, failed: func() { ended.Add(1) }}
					if p.submit(job, i%2 == 0) {
						taken.Add(1)
					}
				}
			}()
		}
		close(begin)
		p.Close(context.Background())
		wg.Wait()
		if taken.Load() != ended.Load() {
			t.Fatalf("%d jobs were taken, %d came to an end", taken.Load(), ended.Load())
		}
	}
}

// TestHashPoolBookkeeping: the hash that is made after a user's login keeps no other login of that user
// waiting.
func TestHashPoolBookkeeping(t *testing.T) {
	p, _ := newTestPool(t, 2, 100)
	reached, release := make(chan struct{}), make(chan struct{})
	p.submit(hashJob{id: joe, run: func() { close(reached); <-release }, failed: func() {}}, false)
	<-reached
	if err := p.Run(t.Context(), joe, func() {}); err != nil {
		t.Error(err)
	}
	close(release)
	p.Close(context.Background())
}
