// Package recent remembers what was decided lately, for the status page: the last decisions one by one, and those of
// the last hour as counts for each minute and listener.
//
// All of it is in memory, and bounded. A [Log] that is off holds nothing, and costs a load of a pointer for each
// decision.
package recent

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/auth"
)

// Minutes is how far back the counts go, the minute that is under way included.
const Minutes = 60

// Bounds of what is kept.
const (
	kept     = 2048 // decisions that were a yes, and as many that were not
	maxText  = 256  // bytes of a text
	maxFront = 64   // listeners; those beyond share the counts of the last one
)

// Decision is an answer to a request.
type Decision struct {
	At      time.Time // of the answer
	Took    time.Duration
	Front   string // name of the listener
	Op      auth.Operation
	Verdict auth.Verdict
	Source  auth.Source
	User    string
	Domain  string
	Client  string // address of the client, if it is known
	Service string
	Reason  string // why it is no yes
}

// Log remembers decisions while it is on. It is safe for concurrent use, also a nil one, which is off.
type Log struct{ memory atomic.Pointer[memory] }

// On reports whether decisions are remembered.
func (l *Log) On() bool { return l != nil && l.memory.Load() != nil }

// Switch turns the log on, or off, which forgets everything. now is when it begins.
func (l *Log) Switch(on bool, now time.Time) {
	switch {
	case !on:
		l.memory.Store(nil)
	case l.memory.Load() == nil:
		l.memory.Store(&memory{since: now, fronts: make(map[string]*series)})
	}
}

// Note remembers a decision.
func (l *Log) Note(d Decision) {
	if l == nil {
		return
	}
	if m := l.memory.Load(); m != nil {
		m.note(d)
	}
}

// memory is what a log that is on holds.
type memory struct {
	since time.Time

	mu      sync.Mutex
	yes, no ring
	fronts  map[string]*series
}

func (m *memory) note(d Decision) {
	for _, text := range []*string{&d.User, &d.Domain, &d.Client, &d.Service, &d.Reason} {
		*text = clip(*text)
	}
	d.own()
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.Verdict == auth.Allow {
		m.yes.add(d)
	} else {
		m.no.add(d)
	}
	s := m.fronts[d.Front]
	if s == nil {
		s = m.series(d.Front)
	}
	s.minute(d.At.Unix() / 60).note(&d)
}

// own copies the names into memory of their own: they may be parts of a whole request, with the password in it.
func (d *Decision) own() {
	texts := [...]*string{&d.User, &d.Domain, &d.Client, &d.Service}
	var copied strings.Builder
	copied.Grow(len(d.User) + len(d.Domain) + len(d.Client) + len(d.Service))
	for _, text := range texts {
		copied.WriteString(*text)
	}
	all := copied.String()
	for _, text := range texts {
		n := len(*text)
		*text, all = all[:n], all[n:]
	}
}

// series begins the counts of a listener.
func (m *memory) series(front string) *series {
	if len(m.fronts) >= maxFront {
		front = Others
		if s := m.fronts[front]; s != nil {
			return s
		}
	}
	s := new(series)
	m.fronts[front] = s
	return s
}

// Others stands for the listeners that have no counts of their own.
const Others = "(others)"

// clip returns a text that is short. It does not keep a long one in memory.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(strings.Clone(text[:maxText]), "") + "..."
}

// ring holds the last decisions. Its memory grows with them.
type ring struct {
	all  []Decision
	next int // where the next one goes once it is full
}

func (r *ring) add(d Decision) {
	if len(r.all) < kept {
		r.all = append(r.all, d)
		return
	}
	r.all[r.next] = d
	r.next = (r.next + 1) % kept
}

// newest returns the i-th decision from the last one back.
func (r *ring) newest(i int) *Decision {
	if i >= len(r.all) {
		return nil
	}
	return &r.all[(r.next+2*len(r.all)-1-i)%len(r.all)]
}

// Filter selects decisions. Empty texts select any.
type Filter struct {
	User, Domain string // parts of the names, in any letter case
	Front        string
	Verdict      string // as auth.Verdict has it
	WholeUser    bool   // User is no part of a name, but all of it
}

// matches reports whether a decision is selected.
func (f *Filter) matches(d *Decision) bool {
	return (f.Verdict == "" || d.Verdict.String() == f.Verdict) && (f.Front == "" || d.Front == f.Front) &&
		f.user(d.User) && contains(d.Domain, f.Domain)
}

func (f *Filter) user(name string) bool {
	if f.WholeUser && f.User != "" {
		return auth.FoldUser(name) == auth.FoldUser(f.User)
	}
	return contains(name, f.User)
}

func contains(text, part string) bool {
	return part == "" || strings.Contains(auth.FoldUser(text), auth.FoldUser(part))
}

// Last returns the last decisions that a filter selects, at most most, the latest first.
func (l *Log) Last(f Filter, most int) []Decision {
	if l == nil {
		return nil
	}
	m := l.memory.Load()
	if m == nil {
		return nil
	}
	m.mu.Lock()
	yes, no := m.yes.copied(), m.no.copied()
	m.mu.Unlock()
	out := make([]Decision, 0, most)
	for i, j := 0, 0; len(out) < most; {
		d, e := yes.newest(i), no.newest(j)
		if d == nil && e == nil {
			break
		}
		if d == nil || e != nil && e.At.After(d.At) {
			d, j = e, j+1
		} else {
			i++
		}
		if f.matches(d) {
			out = append(out, *d)
		}
	}
	return out
}

// copied returns a ring that is looked at without a lock.
func (r *ring) copied() ring {
	return ring{all: append([]Decision(nil), r.all...), next: r.next}
}
