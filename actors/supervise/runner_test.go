package supervise

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// inline reports whether a message runs on the goroutine that sends it.
func inline(r *Ref, run *Runner) bool {
	where := make(chan string, 1)
	r.SendBy(run, func(*carrier) { where <- goroutineID() })
	return <-where == goroutineID()
}

func TestInline(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	r.idle(r.ref)
	var run Runner
	for range 3 {
		if !inline(r.ref, &run) {
			t.Error("an idle actor was not run by its sender")
		}
	}
	h := send(r, newHold())
	<-h.reached
	p := new(parcel)
	r.ref.SendBy(&run, p)
	if p.handled() {
		t.Error("an actor handles two messages at once")
	}
	close(h.release)
	eventually(t, "work", p.handled)
	r.idle(r.ref)
	if r.ref.SendBy(nil, p); run.running || run.left != inlineMessages-1 {
		t.Errorf("the runner is %+v", &run)
	}
}

// TestInlineRefusals: what a full, suspended or stopped actor does not take is failed at once.
func TestInlineRefusals(t *testing.T) {
	r := newRig(t, 1, &carrier{})
	var run Runner
	by := func(p *parcel) *parcel { r.ref.SendBy(&run, p); return p }
	h := send(r, newHold())
	<-h.reached
	by(new(parcel))
	fellTo(t, "a request beyond the limit", by(new(parcel)), Overloaded)
	close(h.release)
	r.idle(r.ref)
	r.ref.box.limit = 10
	r.suspend(func() {})
	fellTo(t, "a request to a suspended actor", by(new(parcel)), Panicked)
	rest := new(must)
	r.ref.SendBy(&run, rest)
	if rest.handled() {
		t.Error("a suspended actor works")
	}
	r.restart()
	eventually(t, "the continuation", rest.handled)
	r.ref.Stop()
	fellTo(t, "a request to a stopped actor", by(new(parcel)), Stopped)
	r.ends(r.ref)
	fellTo(t, "a request after the end", by(new(parcel)), Stopped)
	if run.running || len(run.later) > 0 {
		t.Errorf("the runner is %+v", &run)
	}
}

// TestInlinePanic: the panic goes to the supervisor, the restart to the pool, and the runner
// works on.
func TestInlinePanic(t *testing.T) {
	restarted := make(chan string, 1)
	r := newRig(t, 10, &carrier{note: func(kind string) {
		if kind == "Restarting" {
			restarted <- goroutineID()
		}
	}})
	r.idle(r.ref)
	var run Runner
	bad := &parcel{panics: 1}
	r.ref.SendBy(&run, bad)
	fellTo(t, "the request that panics", bad, Panicked)
	if <-restarted == goroutineID() {
		t.Error("the sender restarts the actor")
	}
	after := new(must)
	r.ref.SendBy(&run, after)
	eventually(t, "work after the restart", after.handled)
	r.idle(r.ref)
	if !inline(r.ref, &run) || r.ref.Restarts() != 1 {
		t.Errorf("after %d restarts the sender does not run the actor", r.ref.Restarts())
	}
}

// TestInlineStop: an actor that is stopped while its sender runs it stops on the pool, and what
// it was sent meanwhile is answered.
func TestInlineStop(t *testing.T) {
	stopped := make(chan string, 1)
	r := newRig(t, 10, &carrier{note: func(kind string) {
		if kind == "Stopped" {
			stopped <- goroutineID()
		}
	}})
	r.idle(r.ref)
	var run Runner
	queued, late := new(parcel), new(parcel)
	r.ref.SendBy(&run, func(c *carrier) {
		c.self.Forward(c.self, queued)
		c.self.Stop()
		c.self.Forward(c.self, late)
	})
	fellTo(t, "a queued request", queued, Stopped)
	fellTo(t, "a request while the actor stops", late, Stopped)
	r.ends(r.ref)
	if <-stopped == goroutineID() {
		t.Error("the sender stops the actor")
	}
}

// TestInlineBound: a runner handles 32 messages and leaves the rest, of all actors, to the pool.
func TestInlineBound(t *testing.T) {
	r := newRig(t, 1000, &carrier{})
	others := []*Ref{r.spawn("other0", 1000, &carrier{}), r.spawn("other1", 1000, &carrier{})}
	r.idle(append(others, r.ref)...)
	var mu sync.Mutex
	here, sender := 0, goroutineID()
	var order []int
	var run Runner
	all := make(chan struct{})
	r.ref.SendBy(&run, func(c *carrier) { // the first message
		for i := range 100 {
			c.self.Forward(others[i%2], func(*carrier) {
				mu.Lock()
				defer mu.Unlock()
				if goroutineID() == sender {
					here++
				}
				if order = append(order, i); len(order) == 100 {
					close(all)
				}
			})
		}
	})
	<-all
	mu.Lock()
	defer mu.Unlock()
	if here != inlineMessages-1 {
		t.Errorf("the sender handled %d messages", here+1)
	}
	if run.running || len(run.later) > 0 || run.next != 0 {
		t.Errorf("the runner is %+v", &run)
	}
	last := map[int]int{0: -1, 1: -1}
	for _, i := range order {
		if last[i%2] > i {
			t.Fatalf("the order was %v", order)
		}
		last[i%2] = i
	}
}

// TestInlineStarvation: an actor that keeps sending to itself does not hold the runner.
func TestInlineStarvation(t *testing.T) {
	r := newRig(t, 1000, &carrier{})
	other := r.spawn("other", 1000, &carrier{})
	r.idle(r.ref, other)
	var enough atomic.Bool
	var again func(*carrier)
	again = func(c *carrier) {
		if !enough.Load() {
			c.self.Forward(c.self, again)
		}
	}
	var run Runner
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ref.SendBy(&run, again)
		if !inline(other, &run) {
			t.Error("the next actor was not run by its sender")
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("the runner is held")
	}
	enough.Store(true)
	<-done
}

// TestForwardChain: actors that forward run one after another on the sender's goroutine, none
// within another, and on the pool without a runner.
func TestForwardChain(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	chain := []*Ref{r.ref}
	for i := range 20 {
		chain = append(chain, r.spawn("link"+string(rune('a'+i)), 10, &carrier{}))
	}
	r.idle(chain...)
	depths, where := make(chan int, len(chain)), make(chan string, len(chain))
	var step func(*carrier)
	step = func(c *carrier) {
		stack := make([]byte, 1<<16)
		depths <- strings.Count(string(stack[:runtime.Stack(stack, false)]), "mailbox).run")
		where <- goroutineID()
		if i := len(depths); i < len(chain) {
			c.self.Forward(chain[i], step)
		}
	}
	var run Runner
	r.ref.SendBy(&run, step)
	if len(depths) != len(chain) {
		t.Fatalf("%d of %d were run by the sender", len(depths), len(chain))
	}
	first := <-depths
	for range len(chain) - 1 {
		if d := <-depths; d != first {
			t.Errorf("a chain of %d, then of %d runs within each other", first, d)
		}
	}
	for range chain {
		if <-where != goroutineID() {
			t.Error("another goroutine ran a link")
		}
	}
	r.idle(chain...)
	send(r, step)
	eventually(t, "the chain on the pool", func() bool { return len(where) == len(chain) })
	for range chain {
		if <-where == goroutineID() {
			t.Error("the sender ran a link")
		}
	}
}

// TestForwardOnPool: what is forwarded waits neither for another message of the actor that
// forwarded it, nor for another actor.
func TestForwardOnPool(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	others := []*Ref{r.spawn("other0", 10, &carrier{}), r.spawn("other1", 10, &carrier{})}
	r.idle(append(others, r.ref)...)
	first, last, behind := newHold(), newHold(), new(parcel)
	second := new(parcel)
	send(r, func(c *carrier) {
		c.self.Forward(others[0], first)
		c.self.Forward(others[1], second)
		c.self.Forward(others[0], behind)
		c.self.Send(last)
	})
	<-last.reached
	<-first.reached
	eventually(t, "the second actor's work", second.handled)
	close(last.release)
	close(first.release)
	eventually(t, "what stood behind", behind.handled)

	third := newHold() // behind a stop
	send(r, func(c *carrier) {
		c.self.Forward(others[0], third)
		c.self.Stop()
	})
	<-third.reached
	r.ends(r.ref)
	close(third.release)
}

// TestSendFromInline: Send within a run goes to the pool, as it must for actors that may block.
func TestSendFromInline(t *testing.T) {
	r := newRig(t, 10, &carrier{})
	other := r.spawn("other", 10, &carrier{})
	r.idle(r.ref, other)
	where := make(chan string, 1)
	r.ref.SendBy(new(Runner), func(*carrier) {
		other.Send(func(*carrier) { where <- goroutineID() })
		if <-where == goroutineID() {
			t.Error("the sender runs the other actor")
		}
	})
}

// TestInlineRaces: many runners, senders and panics, and every request is answered once.
func TestInlineRaces(t *testing.T) {
	const senders, messages, actors = 6, 3000, 4
	r := newRigWith(t, 64, &carrier{}, Options{
		Log: quietLog, FirstPause: time.Microsecond, MaxPause: time.Millisecond,
	})
	r.strategy.schedule = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	refs := []*Ref{r.ref}
	for i := range actors - 1 {
		refs = append(refs, r.spawn("other"+string(rune('a'+i)), 64, &carrier{}))
	}
	var answered atomic.Int64
	var wg sync.WaitGroup
	for s := range senders {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var run Runner
			for i := range messages {
				q := &walk{refs: refs, hops: i % 5, at: s + i, panics: i%500 == s, answered: &answered}
				to := refs[q.at%len(refs)]
				if s%3 == 2 {
					to.Send(q)
				} else {
					to.SendBy(&run, q)
				}
			}
		}()
	}
	wg.Wait()
	eventually(t, "all answers", func() bool { return answered.Load() >= senders*messages })
	eventually(t, "a restart", func() bool { // on a busy machine full mailboxes may have refused every message that panics
		if r.Restarts() == 0 {
			r.ref.Send(&walk{refs: refs, panics: true, answered: new(atomic.Int64)})
		}
		return r.Restarts() > 0
	})
	for _, ref := range refs {
		ref.Stop()
		r.ends(ref)
	}
	if n := answered.Load(); n != senders*messages {
		t.Errorf("%d answers to %d requests", n, senders*messages)
	}
}

// walk is a request that goes from actor to actor.
type walk struct {
	refs     []*Ref
	hops, at int
	panics   bool
	over     atomic.Bool
	answered *atomic.Int64
}

func (w *walk) Fail(Reason) {
	if !w.over.Swap(true) {
		w.answered.Add(1)
	}
}

func (w *walk) handle(c *carrier) {
	if w.hops == 0 {
		if w.panics {
			panic(injected("walk"))
		}
		w.Fail(Stopped)
		return
	}
	w.hops--
	w.at++
	c.self.Forward(w.refs[w.at%len(w.refs)], w)
}

// TestAttention: an owner that attends is not woken up, and never misses anything.
func TestAttention(t *testing.T) {
	var run Runner
	if run.Notify() || run.Settle() {
		t.Error("away")
	}
	run.Attend()
	if run.Settle() || run.Notify() {
		t.Error("nothing came")
	}
	run.Attend()
	for range 2 {
		if !run.Notify() {
			t.Error("the owner attends")
		}
		run.Attend() // changes nothing
	}
	if !run.Settle() || run.Settle() || run.Notify() {
		t.Error("something came")
	}

	const messages = 20000
	var there atomic.Int64
	wake := make(chan struct{}, 1)
	go func() {
		for range messages {
			there.Add(1)
			if !run.Notify() {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
		}
	}()
	for there.Load() < messages {
		run.Attend()
		before := there.Load()
		runtime.Gosched()
		if !run.Settle() && there.Load() == before {
			select {
			case <-wake:
			case <-time.After(20 * time.Second):
				t.Fatalf("asleep after %d of %d", there.Load(), messages)
			}
		}
	}
}
