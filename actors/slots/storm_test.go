package slots

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// took has the actor believe that answers take so long.
func (r *rig) took(service time.Duration) {
	q := &Question{Query: backend.Query{Op: auth.OpIsUser}, Reply: func(Reply) {}}
	for range 100 {
		r.Ref.Send(&slotDone{q: q, class: backend.Refused, took: service}) // begun long ago: no sign for a ramp
	}
}

// settled waits until the actor has handled what was sent to it, and returns how many questions wait.
func (r *rig) settled() int {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := supervise.Ask(ctx, r.Ref, func(*limits) {}); err != nil {
		r.t.Fatal(err)
	}
	return r.Counts().Waiting
}

// order has the users noted that the backend is asked about; what it returns lists them so far, in order.
func (r *rig) order() (asked func() []string) {
	var mu sync.Mutex
	var order []string
	held := r.fake.ask
	r.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
		mu.Lock()
		order = append(order, q.User)
		mu.Unlock()
		return held(ctx, q)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(order)
	}
}

// login makes a question a login with an unknown password.
func login(user string, secret uint64) func(*Question) {
	return func(q *Question) {
		q.Query.Op, q.Query.User, q.Guess.Secret = auth.OpAuth, user, secret
	}
}

// TestBurst: of a burst, what can be answered within its deadline waits and is answered, and all else is
// refused at once.
func TestBurst(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 32, MinSlots: 4, Queue: 65536})
	r.took(5 * time.Second)
	const fits = 32 + 1768 // 300 s, a sixteenth less, of 32 answers in five seconds
	var all []<-chan Reply
	for range 4000 {
		all = append(all, r.put(func(q *Question) { q.Deadline = time.Now().Add(300 * time.Second) }))
	}
	busy := 0
	for _, reply := range all[fits:] {
		a := <-reply // nothing has been answered by the backend
		if !a.Busy || a.Source != auth.SourceOverload {
			t.Fatalf("beyond what fits: %+v", a)
		}
		busy++
	}
	if n := r.settled(); n < 1700 || n > fits-32 {
		t.Errorf("%d wait, want 1768 or a little less", n)
	}
	close(r.release)
	yes := 0
	for _, reply := range all[:fits] {
		a := <-reply
		switch {
		case a.Result.Class == backend.Accepted:
			yes++
		case !a.Busy:
			t.Fatalf("%+v", a)
		}
	}
	if yes < 1732 {
		t.Errorf("%d of %d were let in", yes, fits)
	}
	r.stands(0, 0)
}

// TestBurstAtTheStart: before anything was measured a burst waits, and what turns out to come too late
// is refused before its deadline.
func TestBurstAtTheStart(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 32, MinSlots: 4, Queue: 65536})
	var all []<-chan Reply
	for range 5000 {
		all = append(all, r.put(func(q *Question) { q.Deadline = time.Now().Add(200 * time.Second) }))
	}
	r.stands(32, 4968)
	r.took(5 * time.Second) // so 200 s have room for 1,280
	busy := 0
	for _, reply := range slices.Backward(all) {
		if a := <-reply; !a.Busy {
			t.Fatalf("%+v", a)
		}
		if busy++; busy == 3000 {
			break
		}
	}
	for deadline := time.Now().Add(time.Minute); r.Counts().Waiting > 5000-3000-32; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait", r.Counts().Waiting)
		}
	}
	close(r.release)
	for _, reply := range all[:1200] {
		r.want(reply, backend.Accepted, auth.SourceBackend, false)
	}
	r.stands(0, 0)
}

// TestBlocksTakeTurns: a question of a quiet domain is next to be asked, however many of another one
// wait, and fits where theirs do not.
func TestBlocksTakeTurns(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 1, MinSlots: 1, Queue: 65536})
	asked := r.order()
	r.took(time.Second)
	of := func(block, user string) <-chan Reply {
		return r.put(func(q *Question) { q.Block, q.Query.User = block, user })
	}
	var all []<-chan Reply
	for i := range 500 {
		all = append(all, of("storm.example", fmt.Sprint("storm", i)))
	}
	r.want(all[499], backend.Outage, auth.SourceOverload, true)
	quiet := of("quiet.example", "quiet")
	r.settled()
	for range 4 {
		r.release <- struct{}{}
	}
	r.want(quiet, backend.Accepted, auth.SourceBackend, false)
	close(r.release)
	for _, reply := range all[:499] {
		<-reply
	}
	order := asked()
	if i := slices.Index(order, "quiet"); i > 2 {
		t.Errorf("it was asked as number %d", i)
	}
	last := -1
	for _, user := range order {
		var number int
		if _, err := fmt.Sscanf(user, "storm%d", &number); err != nil {
			continue // the quiet one
		}
		if number <= last {
			t.Fatalf("number %d was asked after number %d", number, last)
		}
		last = number
	}
}

// TestFullQueueIsFair: where a number bounds the queue, a domain with few questions displaces one of
// the domain with the most.
func TestFullQueueIsFair(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 1, Queue: 4})
	of := func(block string) <-chan Reply { return r.put(func(q *Question) { q.Block = block }) }
	var storm []<-chan Reply
	for range 5 {
		storm = append(storm, of("storm.example"))
	}
	r.stands(1, 4)
	r.want(of("storm.example"), backend.Outage, auth.SourceOverload, true)
	first, second := of("quiet.example"), of("quiet.example")
	r.want(storm[4], backend.Outage, auth.SourceOverload, true)
	r.want(storm[3], backend.Outage, auth.SourceOverload, true)
	r.want(of("quiet.example"), backend.Outage, auth.SourceOverload, true)
	close(r.release)
	for _, reply := range append(storm[:3], first, second) {
		r.want(reply, backend.Accepted, auth.SourceBackend, false)
	}
}

// TestDropAtTheHead: a question with less time than an answer takes is not asked when its turn
// comes.
func TestDropAtTheHead(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 1, Queue: 100})
	const service = time.Second
	r.took(service)
	held := r.put(nil)
	r.stands(1, 0)
	end := time.Now().Add(2200 * time.Millisecond)
	late := r.put(func(q *Question) { q.Deadline = end })
	wanted := r.put(nil)
	r.stands(1, 2)
	time.Sleep(time.Until(end.Add(-950 * time.Millisecond)))
	r.release <- struct{}{}
	r.want(held, backend.Accepted, auth.SourceBackend, false)
	r.want(late, backend.Outage, auth.SourceDeadline, false)
	r.release <- struct{}{}
	r.want(wanted, backend.Accepted, auth.SourceBackend, false)
	if n := r.fake.asked.Load(); n != 2 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestRamp: when a backend works again, one question finds out, and as many as wait are then asked in
// rounds that double.
func TestRamp(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 32, MinSlots: 4, Queue: 65536, BreakerFailures: 2, BreakerCooldown: 50 * time.Millisecond})
	var down atomic.Bool
	held := r.fake.ask
	r.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
		if down.Load() {
			return backend.Result{Class: backend.Outage, Err: errors.New("connection refused")}
		}
		return held(ctx, q)
	}
	down.Store(true)
	for !r.Counts().Open {
		<-r.put(nil)
	}
	down.Store(false)
	for deadline := time.Now().Add(time.Minute); r.Counts().Busy == 0 && time.Now().Before(deadline); {
		r.put(nil)
		time.Sleep(time.Millisecond)
	}
	r.stands(1, 0)
	for range 1000 {
		r.want(r.put(nil), backend.Outage, auth.SourceBackend, false) // one probe is enough
	}
	r.stands(1, 0)
	r.release <- struct{}{}
	r.stands(0, 0)
	r.took(time.Millisecond) // the probe was held for long
	var all []<-chan Reply
	for range 5000 {
		all = append(all, r.put(func(q *Question) { q.Deadline = time.Now().Add(time.Hour) }))
	}
	waiting := 5000
	for _, limit := range []int{1, 2, 4, 8, 16, 32, 32} {
		waiting -= limit
		r.stands(limit, waiting)
		if c := r.Counts(); c.Limit != limit || c.Slots != 32 {
			t.Fatalf("%d of %d slots, want %d", c.Limit, c.Slots, limit)
		}
		for range limit {
			r.release <- struct{}{}
		}
	}
	close(r.release)
	for _, reply := range all {
		r.want(reply, backend.Accepted, auth.SourceBackend, false)
	}
	r.stands(0, 0)
}

// TestCrowd: unknown passwords from one address have half of the queue, and have it again when they
// are gone.
func TestCrowd(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 1, Queue: 8})
	secret := uint64(0)
	from := func(address uint64) func(*Question) {
		return func(q *Question) { login("joe", secret)(q); q.Guess.From = address }
	}
	for range 2 {
		secret++ // or it is known
		held := r.put(nil)
		r.stands(1, 0)
		var all []<-chan Reply
		for range 4 {
			all = append(all, r.put(from(7)))
		}
		r.want(r.put(from(7)), backend.Outage, auth.SourceOverload, true)
		all = append(all, r.put(from(8)), r.put(from(0)), r.put(func(q *Question) { from(7)(q); q.Known = true }))
		r.stands(1, 7)
		for range 8 {
			r.release <- struct{}{}
		}
		for _, reply := range append(all, held) {
			r.want(reply, backend.Accepted, auth.SourceBackend, false)
		}
		r.stands(0, 0)
	}
}

// TestCrowdByTime: without a bound by number, it is half of the time.
func TestCrowdByTime(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 1, Queue: 65536})
	r.took(time.Second)
	var all []<-chan Reply
	for i := range uint64(60) {
		all = append(all, r.put(func(q *Question) { login(fmt.Sprint("u", i), i+1)(q); q.Guess.From = 7 }))
	}
	r.want(all[59], backend.Outage, auth.SourceOverload, true)
	if n := r.settled(); n < 25 || n > 30 {
		t.Errorf("one address has %d questions waiting for a minute of one each second", n)
	}
	other := r.put(func(q *Question) { login("other", 99)(q); q.Guess.From = 8 })
	close(r.release)
	r.want(other, backend.Accepted, auth.SourceBackend, false)
}

// TestWaitsForTheBudget: no more unknown passwords are asked about than may be refused, in order and
// fairly between domains; known ones are not held up by that.
func TestWaitsForTheBudget(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 20, MinSlots: 4, Queue: 65536, RefusalBudget: 8, RefusalWindow: time.Hour})
	asked := r.order()
	var all []<-chan Reply
	for i := range uint64(100) {
		all = append(all, r.put(login(fmt.Sprint("u", i), i+1)))
	}
	r.stands(8, 92)
	known := r.put(func(q *Question) { login("known", 999)(q); q.Known = true })
	r.stands(9, 92)
	quiet := r.put(func(q *Question) { login("quiet", 1000)(q); q.Block = "quiet.example" })
	r.stands(9, 93)
	for range 30 {
		r.release <- struct{}{}
		if busy := r.Counts().Busy; busy > 9 {
			t.Errorf("%d at once", busy)
		}
	}
	close(r.release)
	for _, reply := range append(all, known, quiet) {
		r.want(reply, backend.Accepted, auth.SourceBackend, false)
	}
	r.stands(0, 0)
	if i := slices.Index(asked(), "quiet"); i > 20 {
		t.Errorf("the quiet domain's was number %d", i)
	}
}

// TestBudgetSharesWait: a question that waits for its account's share holds up no other, and is asked
// when that has room.
func TestBudgetSharesWait(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 20, MinSlots: 4, Queue: 65536, RefusalBudget: 8, RefusalWindow: time.Hour})
	var joe []<-chan Reply
	for i := range uint64(10) { // a quarter of the budget at a time
		joe = append(joe, r.put(login("joe", i+1)))
	}
	r.stands(2, 8)
	ann := r.put(login("ann", 77))
	r.stands(3, 8)
	for range 3 {
		r.release <- struct{}{}
	}
	r.want(ann, backend.Accepted, auth.SourceBackend, false)
	close(r.release)
	for _, reply := range joe {
		r.want(reply, backend.Accepted, auth.SourceBackend, false)
	}
	r.stands(0, 0)
}

// TestSpentBudgetEndsTheWait: when the backend has refused as many as it bears, those that wait for the
// budget are answered in its place, without a free slot for each being needed.
func TestSpentBudgetEndsTheWait(t *testing.T) {
	r := newRig(t, true, config.Backend{Slots: 20, MinSlots: 4, Queue: 65536, RefusalBudget: 8, RefusalWindow: time.Hour})
	r.fake.ask = func(ctx context.Context, _ backend.Query) backend.Result {
		select {
		case <-r.release:
		case <-ctx.Done():
		}
		return backend.Result{Class: backend.Refused}
	}
	var all []<-chan Reply
	for i := range uint64(100) {
		all = append(all, r.put(login(fmt.Sprint("u", i), i+1)))
	}
	r.stands(8, 92)
	close(r.release)
	for i, reply := range all {
		if i < 8 {
			r.want(reply, backend.Refused, auth.SourceBackend, false)
		} else {
			r.want(reply, backend.Outage, auth.SourceLimitBudget, false)
		}
	}
	r.stands(0, 0)
}
