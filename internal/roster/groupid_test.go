package roster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestGroupID(t *testing.T) {
	for name, want := range map[string]string{
		"team": "team", "team-1.b_c": "team-1.b_c", "Team": "team-", "Büro & Co": "b-ro-co-", "日本": "", " ": "",
		"team one": "team-one-", "a:b/c'd": "a-b-c-d-",
	} {
		got := GroupID(name)
		if plain(name) && got != name || !plain(name) && (!plain(got) || len(got) != len(want)+12 || got[:len(want)] != want) {
			t.Errorf("%q: %q, want %q and a hash", name, got, want)
		}
	}
	if GroupID("Team") == GroupID("TEAM") {
		t.Error("two groups have one identifier")
	}
	long := ""
	for range 200 {
		long += "Ab"
	}
	if id := GroupID(long); len(id) > maxSlug+13 || !plain(id) {
		t.Errorf("a long name: %q", id)
	}
}

// restricted is an ejabberd in memory: a strict one refuses identifiers, and knows newerCommand.
type restricted struct {
	strict, down bool
	labels       map[string]string
	members      map[string][]string
	probes       int
}

func (r *restricted) Close() {}

func (r *restricted) knows(_ context.Context, command string) (bool, error) {
	r.probes++
	if r.down {
		return false, errors.New("down")
	}
	return r.strict && command == "srg_set_info", nil
}

func (r *restricted) Do(_ context.Context, s Step) ([]string, error) {
	id, member := s.id(), s.User+"@"+s.Host
	switch {
	case r.down:
		return nil, errors.New("down")
	case s.Command == Create && r.strict && !plain(id):
		return nil, fmt.Errorf("%w: invalid_group_name", ErrRefused)
	case s.Command == Create:
		r.labels[id] = s.Group
	case s.Command == UserAdd && !slices.Contains(r.members[id], member):
		r.members[id] = append(r.members[id], member)
	case s.Command == UserDel:
		r.members[id] = slices.DeleteFunc(r.members[id], func(m string) bool { return m == member })
	}
	return r.members[id], nil
}

// A group whose name is no identifier gets one where the server restricts them, at once or, known from
// before, when it has no members under its name any more. Other servers see no difference.
func TestIdentifiedGroups(t *testing.T) {
	ctx, name := context.Background(), "Büro & Co"
	add := Step{Command: UserAdd, User: "u", Host: "d.example", Group: name, Home: "d.example"}
	list, drop, make := add, add, add
	list.Command, drop.Command, make.Command = GetMembers, UserDel, Create
	for title, c := range map[string]struct {
		strict bool
		before []string // members under the name
		steps  []Step
		id     string
	}{
		"old server":               {false, nil, []Step{make, list, add}, name},
		"new server":               {true, nil, []Step{make, list, add}, GroupID(name)},
		"known state, new server":  {true, nil, []Step{add}, GroupID(name)},
		"made by an older server":  {true, []string{"u@d.example"}, []Step{add}, name},
		"emptied, then used again": {true, []string{"u@d.example"}, []Step{drop, list, add}, GroupID(name)},
	} {
		t.Run(title, func(t *testing.T) {
			r := &restricted{strict: c.strict, labels: map[string]string{}, members: map[string][]string{name: c.before}}
			if len(c.before) > 0 {
				r.labels[name] = name
			}
			x := newIdentified(r)
			for _, s := range c.steps {
				if _, err := x.Do(ctx, s); err != nil {
					t.Fatalf("%v: %v", s.Args(), err)
				}
			}
			if r.labels[c.id] != name || !slices.Equal(r.members[c.id], []string{"u@d.example"}) || r.probes != 1 {
				t.Errorf("labels %v, members %v, %d probes; want the identifier %s", r.labels, r.members, r.probes, c.id)
			}
			if got, err := x.Do(ctx, list); err != nil || !slices.Equal(got, []string{"u@d.example"}) {
				t.Errorf("listed %v, %v", got, err)
			}
		})
	}
}

// A server that cannot be reached is asked again, and no step is carried out on a guess.
func TestIdentifiedGroupsWhileDown(t *testing.T) {
	r := &restricted{strict: true, down: true, labels: map[string]string{}, members: map[string][]string{}}
	x, step := newIdentified(r), Step{Command: Create, Group: "Team", Home: "d.example"}
	if _, err := x.Do(context.Background(), step); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("down: %v", err)
	}
	r.down = false
	if _, err := x.Do(context.Background(), step); err != nil || r.labels[GroupID("Team")] != "Team" {
		t.Errorf("%v, %v", r.labels, err)
	}
}
