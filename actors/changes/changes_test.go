package changes

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"postern/actors/env"
	"postern/internal/auth"
	"postern/internal/store"
)

// watcher collects what is reported.
type watcher struct{ got []string }

func (w *watcher) Changed(c Change) { w.got = append(w.got, fmt.Sprintf("%s %c", c.ID, c.Kind)) }

func (w *watcher) want(t *testing.T, want ...string) {
	t.Helper()
	if fmt.Sprint(w.got) != fmt.Sprint(want) {
		t.Errorf("reported %q, want %q", w.got, want)
	}
	w.got = nil
}

// rig is a log on a disk, with a clock that the test moves.
type rig struct {
	*Log
	now  time.Time
	disk *store.WriteBehind
}

func newRig(t *testing.T, s store.Store, now time.Time) *rig {
	t.Helper()
	r := &rig{now: now}
	e := env.New(context.Background(), nil, slog.New(slog.DiscardHandler), func() time.Time { return r.now })
	r.Log = New(e)
	if s != nil {
		r.disk = store.NewWriteBehind(s, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		e.SetDisk(r.disk)
		r.Restore()
	}
	return r
}

func openStore(t *testing.T) store.Store {
	t.Helper()
	s, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var (
	begun = time.UnixMilli(1_700_000_000_000)
	joe   = auth.Identity{User: "joe", Domain: "dom.example"}
	ann   = auth.Identity{User: "ann", Domain: "dom.example"}
	all   = auth.Identity{Domain: "dom.example"}
	other = auth.Identity{User: "joe", Domain: "other.example"}
)

// TestState: a change counts for its account, in every spelling, or for all of its domain; each is later
// than the one before, whatever the clock says.
func TestState(t *testing.T) {
	r := newRig(t, nil, begun)
	state := func(id auth.Identity, want time.Time, disabled bool) {
		t.Helper()
		if at, off := r.State(id); !at.Equal(want) || off != disabled {
			t.Errorf("%v: %v, disabled %t; want %v, %t", id, at, off, want, disabled)
		}
	}
	state(joe, time.Time{}, false)
	r.Note(auth.Identity{User: "Joe", Domain: "dom.example"}, Secret, true)
	state(joe, begun, false)
	state(auth.Identity{User: "JOE", Domain: "dom.example"}, begun, false)
	state(ann, time.Time{}, false)
	state(other, time.Time{}, false)
	r.Note(joe, Secret, true)
	state(joe, begun.Add(time.Millisecond), false)
	r.now = begun.Add(-time.Hour)
	r.Note(joe, Disabled, true)
	state(joe, begun.Add(2*time.Millisecond), true)
	r.now = begun.Add(time.Hour)
	r.Note(joe, Disabled, true) // it is
	state(joe, begun.Add(2*time.Millisecond), true)
	r.Enabled(joe, true)
	state(joe, begun.Add(2*time.Millisecond), false)
	r.Note(joe, Disabled, true)
	state(joe, begun.Add(time.Hour), true)
	r.now = begun.Add(2 * time.Hour)
	r.Note(all, Secret, true)
	state(joe, begun.Add(2*time.Hour), true)
	state(ann, begun.Add(2*time.Hour), false)
	state(other, time.Time{}, false)
	r.now = begun.Add(3 * time.Hour)
	r.Note(auth.Identity{}, Secret, true)
	state(other, begun.Add(3*time.Hour), false)
}

// TestWatch: changes are reported in their order to the watchers of their domain, and those that one has
// missed.
func TestWatch(t *testing.T) {
	r := newRig(t, nil, begun)
	first, second := new(watcher), new(watcher)
	r.Watch("dom.example", time.Time{}, first)
	r.Note(joe, Secret, true)
	r.Note(other, Secret, true)
	first.want(t, "joe@dom.example c")
	r.now = begun.Add(time.Minute)
	r.Note(ann, Removed, true)
	r.Note(all, Secret, true)
	first.want(t, "ann@dom.example r", "@dom.example c")
	r.Watch("dom.example", begun.Add(time.Second), second)
	if len(second.got) != 2 {
		t.Errorf("missed since a second after the start: %q", second.got)
	}
	second.got = nil
	r.Unwatch("dom.example", first)
	r.Note(joe, Disabled, true)
	r.Note(joe, Disabled, true)
	r.Note(auth.Identity{}, Secret, true)
	first.want(t)
	second.want(t, "joe@dom.example d", "@ c")
	r.Unwatch("dom.example", second)
	r.Unwatch("dom.example", second)
	r.Note(joe, Secret, true)
	second.want(t)
	if len(r.watchers) != 0 {
		t.Errorf("%d domains are watched", len(r.watchers))
	}
	var none *Log
	none.Note(joe, Secret, true)
	none.Watch("dom.example", time.Time{}, first)
	none.Unwatch("dom.example", first)
}

// TestKept: what is to be kept is known after a restart, for as long as tokens may live.
func TestKept(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, disk, begun)
	r.Note(joe, Secret, true)
	r.Note(ann, Secret, false)
	r.Note(other, Disabled, true)
	r.disk.Close()
	if err := disk.Apply([]store.Op{
		{Key: []byte(store.Changes + "short"), Value: []byte{version, 'c', 0, 0, 0, 0, 0, 0, 0, 1}},
		{Key: []byte(store.Changes + strings.Repeat("x", 32)), Value: []byte{version + 1, 'c', 0, 0, 0, 0, 0, 0, 0, 1}},
		{Key: []byte(store.Changes + strings.Repeat("y", 32)), Value: []byte{version}},
	}, true); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, disk, begun.Add(keptFor))
	for id, want := range map[auth.Identity]time.Time{joe: begun, ann: {}, other: begun} {
		if at, disabled := r.State(id); !at.Equal(want) || disabled != (id == other) {
			t.Errorf("%v: %v, %t; want %v", id, at, disabled, want)
		}
	}
	if len(r.last) != 2 {
		t.Errorf("restored %+v", r.last)
	}
	if err := disk.Apply([]store.Op{Op(auth.Identity{User: "Eve", Domain: "dom.example"}, Removed, begun.Add(time.Hour))}, true); err != nil {
		t.Fatal(err)
	}
	r.Restore()
	if c := r.last[keyOf(auth.Identity{User: "eve", Domain: "dom.example"})]; c.Kind != Removed || !c.At.Equal(begun.Add(time.Hour)) {
		t.Errorf("noted by another process: %+v", c)
	}
	r.Prune()
	if len(r.last) != 3 {
		t.Error("forgotten too early")
	}
	r.now = r.now.Add(2 * time.Hour)
	r.Prune()
	r.disk.Close()
	if r = newRig(t, disk, r.now); len(r.last) != 0 {
		t.Errorf("never forgotten: %+v", r.last)
	}
	r.disk.Close()
}
