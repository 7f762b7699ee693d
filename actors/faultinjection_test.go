package actors

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// faults panics in actors, so many times for each kind of message. It is the inject of a
// setup.
type faults struct {
	mu   sync.Mutex
	plan map[string]int // "actor kind" -> panics still to come
	seen map[string]int // "actor kind" -> messages
	made int            // panics so far
	held map[string]*hold
}

// matches reports whether an actor's name contains a text. A $ at the end of the text
// stands for the end of the name.
func matches(name, text string) bool { return strings.Contains(name+"$", text) }

// arm plans panics at messages of a kind, of the actors with matching names.
func (f *faults) arm(actor, kind string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan == nil {
		f.plan = make(map[string]int)
	}
	f.plan[actor+" "+kind] += times
}

// holdUp has an actor wait at the next tick.
func (f *faults) holdUp(actor string, h *hold) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held == nil {
		f.held = make(map[string]*hold)
	}
	f.held[actor] = h
}

// left is how many planned panics have not happened.
func (f *faults) left() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, times := range f.plan {
		n += times
	}
	return n
}

// count is how many messages of a kind actors of that name were given.
func (f *faults) count(actor, kind string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, times := range f.seen {
		if name, k, _ := strings.Cut(key, " "); k == kind && matches(name, actor) {
			n += times
		}
	}
	return n
}

func (f *faults) inject(name string, message any) {
	kind := kindOf(message)
	f.mu.Lock()
	if h := f.held[name]; h != nil && message == tickMessage {
		delete(f.held, name)
		f.mu.Unlock()
		close(h.reached)
		<-h.release
		return
	}
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = make(map[string]int)
	}
	f.seen[name+" "+kind]++
	for key, times := range f.plan {
		actor, k, _ := strings.Cut(key, " ")
		if k == kind && times > 0 && matches(name, actor) {
			f.plan[key]--
			f.made++
			panic(injected(name + " at " + kind))
		}
	}
}

// kindOf names a message: its type, without the package, and of the outcome of a task's work which
// work that was.
func kindOf(message any) string {
	_, name, _ := strings.Cut(fmt.Sprintf("%T", message), ".")
	if name == "outcome" {
		name += fmt.Sprint(reflect.ValueOf(message).Elem().FieldByName("kind").Uint())
	}
	return name
}

// Outcomes by the work that has ended.
const (
	compResult = "outcome2"
	hashResult = "outcome3"
	askResult  = "outcome4"
)

// restarts sums the restarts of the actors with matching names, as Tree shows them.
func (r *rig) restarts(actor string) (sum int) {
	r.t.Helper()
	for _, line := range r.Tree() {
		_, count, listed := strings.Cut(line, " restarts=")
		if !listed || !matches(strings.Fields(line)[0], actor) {
			continue
		}
		n, err := strconv.Atoi(count)
		if err != nil {
			r.t.Fatalf("%q: %v", line, err)
		}
		sum += n
	}
	return sum
}

// settled waits until every listed actor has had its first message, which comes some time
// after Start, so that a fault planned from here on does not hit that.
func (r *rig) settled(f *faults) {
	r.t.Helper()
	eventually(r.t, "the start of every actor", func() bool { return f.count("", "Started") >= len(r.env.System.Refs()) })
}

// routed waits until the shards have dealt with n calls.
func (r *rig) routed(f *faults, n int) {
	r.t.Helper()
	eventually(r.t, "all requests at the shards", func() bool { return f.count("cache", "Call") == n })
	if err := r.shards.Settle(context.Background()); err != nil { // stands behind the last of them
		r.t.Fatal(err)
	}
}

// recovered reports whether no listed actor waits for its restart.
func (r *rig) recovered() bool {
	return !slices.ContainsFunc(r.Tree(), func(line string) bool { return strings.Contains(line, " restarting ") })
}

// over reports whether every planned panic has happened and its actor has been restarted: for a
// moment after a panic the actor does not yet look as if it waited.
func (r *rig) over(f *faults) bool {
	f.mu.Lock()
	made := f.made
	f.mu.Unlock()
	return f.left() == 0 && r.restarts("") >= made && r.recovered()
}

// answeredWithin fails the test if f takes longer than timeout: for what would otherwise
// hang for ever.
func answeredWithin(t *testing.T, timeout time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(timeout):
		t.Fatalf("%s takes more than %v", what, timeout)
	}
}
