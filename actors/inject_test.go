package actors

import (
	"fmt"
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
}

// matches reports whether an actor's name contains a text, whose last letter $ stands for the
// end of the name.
func matches(name, text string) bool { return strings.Contains(name+"$", text) }

// arm plans panics at messages of a kind, of the actors whose names match.
func (f *faults) arm(actor, kind string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan == nil {
		f.plan = make(map[string]int)
	}
	f.plan[actor+" "+kind] += times
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

// kindOf names a message: a call at its stage, a result of some work, or its type.
func kindOf(message any) string {
	switch m := message.(type) {
	case *Call:
		return fmt.Sprint("call", m.stage)
	case *finished:
		return fmt.Sprint("finished", m.do)
	}
	_, name, _ := strings.Cut(fmt.Sprintf("%T", message), ".")
	return name
}

// Kinds of calls, by stage, and of results, by what was done.
const (
	callToken  = "call0"
	callHot    = "call1"
	callMissed = "call2"
	callSlow   = "call3"
	compResult = "finished1"
	askResult  = "finished2"
	hashResult = "finished3"
)

// restarts sums the restarts of the actors whose names match, as Tree shows them.
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
	eventually(r.t, "the start of every actor", func() bool {
		r.sys.mu.Lock()
		defer r.sys.mu.Unlock()
		return f.count("", "Started") >= len(r.sys.stats)
	})
}

// routed waits until the router has dealt with n calls.
func (r *rig) routed(f *faults, n int) {
	r.t.Helper()
	eventually(r.t, "all requests at the router", func() bool { return f.count("/router", callMissed) == n })
	ticks := f.count("/router", "tick")
	r.sys.Root.Send(r.table.Load().domains["dom.example"].router, tickMessage) // stands behind the last of them
	eventually(r.t, "the router's leisure", func() bool { return f.count("/router", "tick") > ticks })
}

// recovered reports whether no listed actor waits for its restart.
func (r *rig) recovered() bool {
	r.sys.mu.Lock()
	defer r.sys.mu.Unlock()
	for _, s := range r.sys.stats {
		if box := s.box.Load(); box != nil && box.suspended.Load() {
			return false
		}
	}
	return true
}

// over reports whether every planned panic has happened and its actor has been restarted: for a
// moment after a panic the actor does not yet look as if it waited. It is for faults that do not
// restart a supervisor, which would start its children's count anew.
func (r *rig) over(f *faults) bool {
	f.mu.Lock()
	made := f.made
	f.mu.Unlock()
	return f.left() == 0 && r.restarts("") >= made && r.recovered()
}

// hasty makes restarts come soon after one another.
func (r *rig) hasty() {
	r.sys.strategy.first, r.sys.strategy.most = 100*time.Microsecond, time.Millisecond
}

// answeredWithin fails the test if f takes longer than patience: for what would otherwise
// hang for ever.
func answeredWithin(t *testing.T, patience time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s takes more than %v", what, patience)
	}
}
