package roster

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

// An answer is applied halfway, and then the backend gives the one before it again: that does not
// count as applied, and the user leaves the group of the unfinished change.
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
	w := NewDesired(state, &Filter{})
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
	if _, err := NewServer(fake).Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(fake.groups["G@d.example"], []string{"u1@d.example", "u2@d.example"}) {
		t.Errorf("groups %v", fake.groups)
	}
}

// A member of another domain, which ejabberd does not list, leaves a group that is no longer known
// for certain.
func TestUnlistedMember(t *testing.T) {
	fake, state := newFake(), State{newMemory(), "d.example"}
	server := NewServer(fake)
	if err := logsIn(server, state, &Filter{Foreign: []string{"other.example"}}, "u1", document("u1: G; x@other.example: G")); err != nil {
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

// TestForeignAccounts: an answer of one domain's backend neither names an account of another domain
// nor puts it into a group, unless the configuration names that domain. What an earlier version put
// into a group is taken out.
func TestForeignAccounts(t *testing.T) {
	const doc = "u1: G; b@tenant.example=Evil: G, H; c@guest.example=Guest: G"
	for name, c := range map[string]struct {
		foreign []string
		members []string
		names   map[string]string
	}{
		"none": {nil, []string{"u1@d.example"}, map[string]string{}},
		"one":  {[]string{"guest.example"}, []string{"c@guest.example", "u1@d.example"}, map[string]string{"c@guest.example": "Guest"}},
		"all": {[]string{"*"}, []string{"b@tenant.example", "c@guest.example", "u1@d.example"},
			map[string]string{"b@tenant.example": "Evil", "c@guest.example": "Guest"}},
	} {
		fake, state := newFake(), State{newMemory(), "d.example"}
		server, filter := NewServer(fake), &Filter{Foreign: c.foreign}
		if err := logsIn(server, state, filter, "u1", document(doc)); err != nil {
			t.Fatal(err)
		}
		if got := fake.groups["G@d.example"]; !slices.Equal(got, c.members) || !maps.Equal(fake.names, c.names) {
			t.Errorf("%s: members %v, names %v", name, got, fake.names)
		}
		if _, made := fake.groups["H@d.example"]; made != (name == "all") {
			t.Errorf("%s: a group of foreign accounts alone: %t", name, made)
		}
		if err := logsIn(server, state, &Filter{Exclude: []string{"none"}}, "u1", document(doc)); err != nil {
			t.Fatal(err)
		}
		if got := fake.groups["G@d.example"]; !slices.Equal(got, []string{"u1@d.example"}) {
			t.Errorf("%s: afterwards %v", name, got)
		}
	}
}

// Another user's answer changes a group, and the change is undone at the backend: the answer
// that a member was given before is not passed over, however it comes again.
func TestGroupChangedByOthers(t *testing.T) {
	all := "u1: G; u2: G; u3: G"
	type login struct{ user, document string }
	for _, c := range []struct {
		name   string
		logins []login
		want   []string
	}{
		{"member taken out and put back", []login{
			{"u1", all}, {"u2", all}, {"u3", all}, {"u1", "u1: G; u2: G"}, {"u2", all},
		}, []string{"u1", "u2", "u3"}},
		{"the member logs in", []login{
			{"u1", all}, {"u2", all}, {"u3", all}, {"u1", "u1: G; u2: G"}, {"u3", all},
		}, []string{"u1", "u2", "u3"}},
		{"member by mistake", []login{
			{"u1", all}, {"u2", all}, {"u2", all + "; evil: G"}, {"u1", all},
		}, []string{"u1", "u2", "u3"}},
		{"member left by the own answer and came back", []login{
			{"u1", all}, {"u2", all}, {"u3", all}, {"u3", "u3:"}, {"u1", all},
		}, []string{"u1", "u2", "u3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want []string
			for _, u := range c.want {
				want = append(want, u+"@d.example")
			}
			fake, path := newFake(), filepath.Join(t.TempDir(), "groups")
			prosody := NewGroupsFile(path, []string{"true"}, 10*time.Second)
			one, two := State{newMemory(), "d.example"}, State{newMemory(), "d.example"}
			for _, l := range c.logins {
				if err := logsIn(NewServer(fake), one, &Filter{}, l.user, document(l.document)); err != nil {
					t.Fatal(err)
				}
				if err := logsIn(prosody, two, &Filter{}, l.user, document(l.document)); err != nil {
					t.Fatal(err)
				}
			}
			if got := fake.groups["G@d.example"]; !slices.Equal(got, want) {
				t.Errorf("ejabberd has %v, want %v", got, want)
			}
			if text, _ := os.ReadFile(path); string(text) != "[G]\n"+strings.Join(want, "\n")+"\n" {
				t.Errorf("Prosody has\n%s", text)
			}
		})
	}
}

// In one run, a later answer overrules an earlier one, which then comes again as it was.
func TestOverruledAnswerComesAgain(t *testing.T) {
	for _, c := range []struct{ name, before, first, second string }{
		{"group without a member", "u1: G; u2: G", "u1: G; u2: G; u3: G", "u2: G; u1: G"},
		{"group with one more", "u1: G; u2: G", "u1: G; u2: G; u3: G", "u2: G; u1: G; u3: G; u4: G"},
		{"own leave", "u1: G; u2: G", "u1: G; u2: G; u3: G", "u2:"},
		{"name", "u1=A; u2=B", "u1=C; u2=B", "u1=D; u2=B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake, state := newFake(), State{newMemory(), "d.example"}
			for _, user := range []string{"u1", "u2"} {
				if err := logsIn(NewServer(fake), state, &Filter{}, user, document(c.before)); err != nil {
					t.Fatal(err)
				}
			}
			w := NewDesired(state, &Filter{})
			for i, text := range []string{c.first, c.second} {
				doc := []byte(document(text))
				a, err := Parse(doc, "d.example")
				if err != nil {
					t.Fatal(err)
				}
				a.Hash = HashOf(doc, &Filter{})
				w.Add(auth.Identity{User: []string{"u1", "u2"}[i], Domain: "d.example"}, a)
			}
			p, err := NewPlan(w)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := NewServer(fake).Apply(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			count := len(fake.steps)
			if err := logsIn(NewServer(fake), state, &Filter{}, "u1", document(c.first)); err != nil {
				t.Fatal(err)
			}
			if len(fake.steps) == count {
				t.Errorf("the answer was passed over: groups %v, names %v", fake.groups, fake.names)
			}
		})
	}
}

// A step that the server refuses for a user of another domain delays no other step, except for
// memberships.
func TestRefusedForeigners(t *testing.T) {
	doc := document("u1=Ann: G; ext@mail.example=Guest: G")
	for _, c := range []struct {
		name    string
		refuses func(Step) bool
		missed  bool
	}{
		{"full name of a foreigner", func(s Step) bool { return s.Command == SetVCard && s.Host == "mail.example" }, false},
		{"full name of a user", func(s Step) bool { return s.Command == SetVCard && s.Host == "d.example" }, true},
		{"membership of a foreigner", func(s Step) bool { return s.Command == UserAdd && s.Host == "mail.example" }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake, state := newFake(), State{newMemory(), "d.example"}
			fake.fail = func(s Step) (error, error) {
				if c.refuses(s) {
					return ErrRefused, nil
				}
				return nil, nil
			}
			filter := &Filter{Foreign: []string{"mail.example"}}
			err := logsIn(NewServer(fake), state, filter, "u1", doc)
			u, readErr := state.User(auth.Identity{User: "u1", Domain: "d.example"})
			if errors.Is(err, ErrRefused) != c.missed || (u.Hash == Hash{}) != c.missed || readErr != nil {
				t.Errorf("%v; known is %+v, %v", err, u, readErr)
			}
			count := len(fake.steps)
			if _ = logsIn(NewServer(fake), state, filter, "u1", doc); (len(fake.steps) > count) != c.missed {
				t.Errorf("%d commands once more", len(fake.steps)-count)
			}
		})
	}
}
