package memory

import (
	"context"
	"testing"
	"time"

	"postern/internal/auth"
)

// at is a user of a domain.
func at(user, domain string) auth.Identity { return auth.Identity{User: user, Domain: domain} }

// TestHashPoolExpects: what a login would wait for is what comes before it, by the turns of domains and users.
func TestHashPoolExpects(t *testing.T) {
	p, _ := newTestPool(t, 1, 100)
	p.expecting(time.Second)
	if wait, cost := p.Expect(joe, 1); wait != 0 || cost != time.Second>>12 {
		t.Errorf("with a free worker: %v and %v", wait, cost)
	}
	h := newHold(t)
	if !p.submit(hashJob{id: joe, deadline: time.Now(), run: func() { close(h.reached); <-h.release }, failed: func() { t.Error("not tried") }}, true) {
		t.Fatal("a free worker takes no login")
	}
	<-h.reached
	for _, id := range []auth.Identity{at("a", "one"), at("a", "one"), at("a", "one"), at("b", "one"), at("c", "two")} {
		if !p.submit(hashJob{id: id, run: func() {}, failed: func() {}, deadline: time.Now().Add(time.Second)}, true) {
			t.Fatal("a login is refused for the length of the queue")
		}
	}
	for _, c := range []struct {
		id    auth.Identity
		ahead time.Duration // beside the job that runs
	}{
		{at("d", "three"), 2}, // the first of each domain
		{at("d", "two"), 3},   // the second of the other domain, too
		{at("d", "one"), 3},   // the first of each user
		{at("b", "one"), 5},   // the second of each user
		{at("a", "one"), 5},
	} {
		if wait, _ := p.Expect(c.id, 1); wait < c.ahead*time.Second || wait > (c.ahead+1)*time.Second {
			t.Errorf("%v would wait for %v", c.id, wait)
		}
	}
	h.free()
	p.Close(context.Background())
}

// TestHashPoolTooLate: what cannot end before its deadline any more is dropped at its turn, while others wait.
func TestHashPoolTooLate(t *testing.T) {
	p, _ := newTestPool(t, 1, 100)
	h := occupied(t, p)
	order := make(chan string, 10)
	for _, c := range []struct {
		name   string
		within time.Duration
	}{{"late", time.Minute}, {"in time", time.Hour}, {"the last, as late", time.Minute}} {
		job := hashJob{id: at(c.name, "one"), deadline: time.Now().Add(c.within), run: func() { order <- c.name }, failed: func() { order <- c.name + " failed" }}
		if !p.submit(job, true) {
			t.Fatal(c.name)
		}
	}
	p.expecting(10 * time.Minute)
	h.free()
	for _, want := range []string{"late failed", "in time", "the last, as late"} {
		if got := <-order; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	p.Close(context.Background())
}

// TestHashPoolLeaves: a login that waits goes another way when there is a quicker one.
func TestHashPoolLeaves(t *testing.T) {
	p, _ := newTestPool(t, 1, 100)
	p.expecting(time.Hour)
	h := occupied(t, p)
	left, stayed := make(chan time.Duration, 10), make(chan string, 10)
	for _, name := range []string{"a", "b", "c"} {
		var waits time.Duration
		p.submit(hashJob{
			id: at(name, "one"), run: func() { stayed <- name }, failed: func() { t.Error("failed") },
			leaves: func(wait, cost time.Duration) bool { waits = wait; return wait+cost > 150*time.Minute },
			left:   func() { left <- waits },
		}, true)
	}
	for range 2 {
		if waits := <-left; waits < 90*time.Minute {
			t.Errorf("left for a wait of %v", waits)
		}
	}
	h.free()
	if name := <-stayed; name != "a" {
		t.Errorf("%s stayed", name)
	}
	p.Close(context.Background())
}

// TestHashPoolWakesAll: logins use every worker, also those that do bookkeeping, and bookkeeping uses half of them.
func TestHashPoolWakesAll(t *testing.T) {
	for _, urgent := range []bool{true, false} {
		p, _ := newTestPool(t, 4, 100)
		reached, release := make(chan struct{}, 10), make(chan struct{})
		for i := range 8 {
			p.submit(hashJob{id: at(string(rune('a'+i)), "one"), run: func() { reached <- struct{}{}; <-release }, failed: func() {}}, urgent)
		}
		workers := map[bool]int{true: 4, false: 2}[urgent]
		for range workers {
			<-reached
		}
		p.mu.Lock()
		if n := len(p.running); n != workers {
			t.Errorf("urgent %v: %d jobs run, want %d", urgent, n, workers)
		}
		p.mu.Unlock()
		close(release)
		p.Close(context.Background())
	}
}

// TestHashPoolPatience: bookkeeping that would wait for long is not taken, and that which the promise needs is.
func TestHashPoolPatience(t *testing.T) {
	p, _ := newTestPool(t, 1, 100)
	p.expecting(time.Second)
	h := occupied(t, p)
	job := hashJob{id: joe, run: func() {}, failed: func() {}}
	brief := job
	brief.patience = 3 * time.Second
	taken := 0
	for p.submit(brief, false) {
		taken++
	}
	if taken != 3 || !p.submit(job, false) {
		t.Errorf("%d were taken", taken)
	}
	h.free()
	p.Close(context.Background())
}
