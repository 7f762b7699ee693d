package changes

import (
	"testing"
	"time"

	"postern/internal/store"
)

// TestMissed: a store has missed what another has noted later of the account, its domain or all.
func TestMissed(t *testing.T) {
	s, o := openStore(t), openStore(t)
	at := func(minutes int) time.Time { return begun.Add(time.Duration(minutes) * time.Minute) }
	note := func(s store.Store, op store.Op) {
		t.Helper()
		if err := s.Apply([]store.Op{op}, true); err != nil {
			t.Fatal(err)
		}
	}
	note(s, Op(joe, Secret, at(1)))
	note(s, Op(ann, Secret, at(9)))
	note(o, Op(joe, Secret, at(1)))
	note(o, Op(ann, Secret, at(3)))
	note(o, Op(other, Removed, at(4)))
	load := func(s store.Store) Times {
		t.Helper()
		times, err := Load(s)
		if err != nil {
			t.Fatal(err)
		}
		return times
	}
	ours, theirs := load(s), load(o)
	if joe, ann, other := ours.Missed(theirs, joe), ours.Missed(theirs, ann), ours.Missed(theirs, other); !joe.IsZero() || !ann.IsZero() || !other.Equal(at(4)) {
		t.Errorf("joe %v, ann %v, other %v", joe, ann, other)
	}
	note(o, Op(all, Secret, at(5)))
	theirs = load(o)
	if joe, ann := ours.Missed(theirs, joe), theirs.Missed(ours, ann); !joe.Equal(at(5)) || !ann.Equal(at(9)) {
		t.Errorf("after a change of the domain: joe %v, ann %v", joe, ann)
	}
	lacking := ours.Lacking(theirs)
	for _, op := range lacking {
		note(s, op)
	}
	if again := load(s).Lacking(theirs); len(lacking) != 2 || len(again) != 0 {
		t.Errorf("%d were lacking, and %d are", len(lacking), len(again))
	}
	if ann := load(s).Missed(load(o), ann); !ann.IsZero() {
		t.Errorf("a later change was replaced: %v", ann)
	}
}
