package roster

import (
	"errors"
	"slices"
	"testing"

	"postern/internal/auth"
)

// An answer is carried out halfway, and then the backend gives the one before it again: it is
// not taken for carried out, and the user leaves the group that was only begun.
func TestHalfAnswerTakenBack(t *testing.T) {
	fake, state := newFake(), State{newMemory(), "d.example"}
	server, filter := NewServer(fake), &Filter{}
	first := document("u1: G")
	if err := logsIn(server, state, filter, "u1", first); err != nil {
		t.Fatal(err)
	}
	fake.fail = func(s Step) (error, error) {
		if s.Command == UserAdd && s.User == "u2" {
			return errDown, nil
		}
		return nil, nil
	}
	if err := logsIn(server, state, filter, "u1", document("u1: H; u2: H")); !errors.Is(err, errDown) {
		t.Fatal(err)
	}
	if !slices.Equal(fake.groups["H@d.example"], []string{"u1@d.example"}) {
		t.Fatalf("the failure came too early: %v", fake.groups)
	}
	fake.fail = nil
	if err := logsIn(server, state, filter, "u1", first); err != nil {
		t.Fatal(err)
	}
	if len(fake.groups["H@d.example"]) != 0 || !slices.Equal(fake.groups["G@d.example"], []string{"u1@d.example"}) {
		t.Errorf("groups %v", fake.groups)
	}
}

// In one run, a user's own answer gives no group any more, and another's, which came later,
// gives one again.
func TestLaterAnswerCounts(t *testing.T) {
	fake, state := newFake(), State{newMemory(), "d.example"}
	if err := logsIn(NewServer(fake), state, &Filter{}, "u1", document("u1: G; u2: G")); err != nil {
		t.Fatal(err)
	}
	w := NewWanted(state, &Filter{})
	for i, doc := range []string{document("u1:"), document("u1: G; u2: G")} {
		a, err := Parse([]byte(doc), "d.example")
		if err != nil {
			t.Fatal(err)
		}
		a.Hash = HashOf([]byte(doc), &Filter{})
		w.Add(auth.Identity{User: []string{"u1", "u2"}[i], Domain: "d.example"}, a)
	}
	p, err := NewPlan(w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewServer(fake).Carry(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(fake.groups["G@d.example"], []string{"u1@d.example", "u2@d.example"}) {
		t.Errorf("groups %v", fake.groups)
	}
}

// A member of another domain, which ejabberd does not list, leaves a group that is no more
// surely known.
func TestUnlistedMember(t *testing.T) {
	fake, state := newFake(), State{newMemory(), "d.example"}
	server := NewServer(fake)
	if err := logsIn(server, state, &Filter{}, "u1", document("u1: G; x@other.example: G")); err != nil {
		t.Fatal(err)
	}
	ops, err := state.Forget(nil)
	if err == nil {
		err = state.Store.Apply(ops, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	fake.groups["G@d.example"] = []string{"u1@d.example"} // as ejabberd lists it
	fake.steps = nil
	if err := logsIn(server, state, &Filter{}, "u1", document("u1: G")); err != nil {
		t.Fatal(err)
	}
	want := Step{Command: UserDel, User: "x", Host: "other.example", Group: "G", Home: "d.example"}
	if !slices.Contains(fake.steps, want) || slices.ContainsFunc(fake.steps, func(s Step) bool { return s.Command == UserAdd }) {
		t.Errorf("steps %v", fake.steps)
	}
}
