package roster

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/store"
)

func TestAdoptAndErase(t *testing.T) {
	s := newMemory()
	one, two := State{s, "one.example"}, State{s, "two.example"}
	joe := auth.Identity{User: "Joe", Domain: "one.example"}
	ann := auth.Identity{User: "ann", Domain: "two.example"}
	apply := func(ops []store.Op, err error) int {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(ops, true); err != nil {
			t.Fatal(err)
		}
		return len(ops)
	}
	known := User{Named: true, Name: "Joe", Groups: []string{"Team"}}
	if n := apply(one.ImportUser(joe, known)); n != 1 {
		t.Errorf("%d changes", n)
	}
	if n := apply(one.ImportUser(joe, User{Named: true, Name: "Other"})); n != 0 {
		t.Errorf("what was known was changed %d times", n)
	}
	if u, err := one.User(Login(joe)); err != nil || !reflect.DeepEqual(u, known) {
		t.Errorf("%+v, %v", u, err)
	}
	both := Group{Members: []string{"ann@two.example", "joe@one.example"}, Dirty: true}
	apply(one.ImportGroup("Team", []string{"Joe@one.example", "ann@two.example", "joe@one.example"}))
	if n := apply(one.ImportGroup("Team", nil)); n != 0 {
		t.Errorf("what was known was changed %d times", n)
	}
	if g, known, err := one.Group("Team"); err != nil || !known || !reflect.DeepEqual(g, both) {
		t.Errorf("%+v, %v, %v", g, known, err)
	}
	apply(one.ImportGroup("Alone", []string{"joe@one.example"}))
	apply(two.ImportUser(ann, User{}))
	apply(two.ImportGroup("Far", []string{"x@three.example"}))

	erase := func(id auth.Identity, want Erased) {
		t.Helper()
		ops, n, err := Erase(s, id)
		apply(ops, err)
		if n != want {
			t.Errorf("%v: %+v, want %+v", id, n, want)
		}
	}
	erase(auth.Identity{User: "nobody", Domain: "one.example"}, Erased{})
	erase(auth.Identity{User: "ANN", Domain: "two.example"}, Erased{Users: 1, Groups: 1})
	rest := Group{Members: []string{"joe@one.example"}, Dirty: true}
	if g, known, err := one.Group("Team"); err != nil || !known || !reflect.DeepEqual(g, rest) {
		t.Errorf("the group of the erased user: %+v, %v, %v", g, known, err)
	}
	if _, known, _ := one.Group("Alone"); !known {
		t.Error("a group that does not name her is gone")
	}
	erase(auth.Identity{Domain: "three.example"}, Erased{Groups: 1})
	erase(auth.Identity{Domain: "one.example"}, Erased{Users: 1, Groups: 2})
	left := 0
	if err := s.Scan(nil, func([]byte, []byte) bool { left++; return true }); err != nil || left != 0 {
		t.Errorf("%d records are left, %v", left, err)
	}
}

// A user is erased that is still in a group at the backend. The others keep the group whatever
// is carried out next, no step names the user meanwhile, and the answer of one of them, though
// it is as it was, brings the user back.
func TestEraseLeavesTheOthers(t *testing.T) {
	path, fake := filepath.Join(t.TempDir(), "groups"), newFake()
	for _, c := range []struct {
		name   string
		server Server
		lists  func() string // the members of G at the server
	}{
		{"Prosody", NewGroupsFile(path, []string{"true"}, 10*time.Second), func() string {
			text, _ := os.ReadFile(path)
			members, _, _ := strings.Cut(strings.TrimPrefix(string(text), "[G]\n"), "[")
			return strings.Join(strings.Fields(members), " ")
		}},
		{"ejabberd", NewServer(fake), func() string { return strings.Join(fake.groups["G@d.example"], " ") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			state := State{newMemory(), "d.example"}
			in := func(user, doc string) {
				t.Helper()
				if err := logsIn(c.server, state, &Filter{}, user, document(doc)); err != nil {
					t.Fatal(err)
				}
			}
			for _, user := range []string{"u1", "u2", "u3"} {
				in(user, "u1: G; u2: G; u3: G")
			}
			ops, n, err := Erase(state.Store, auth.Identity{User: "u3", Domain: "d.example"})
			if err == nil {
				err = state.Store.Apply(ops, true)
			}
			if err != nil || n != (Erased{Users: 1, Groups: 1}) {
				t.Fatalf("%+v, %v", n, err)
			}
			_ = state.Store.Scan(nil, func(key, value []byte) bool {
				if strings.Contains(string(key)+string(value), "u3@") {
					t.Errorf("%q still names the erased user: %q", key, value)
				}
				return true
			})
			in("v1", "v1: H; v2: H")
			if got := c.lists(); !strings.HasPrefix(got, "u1@d.example u2@d.example") {
				t.Errorf("the others have lost their group: %q", got)
			}
			fake.groups["G@d.example"] = []string{"u1@d.example", "u2@d.example"} // removed there as well
			in("u1", "u1: G; u2: G; u3: G")
			if got := c.lists(); got != "u1@d.example u2@d.example u3@d.example" {
				t.Errorf("the group is %q", got)
			}
		})
	}
}

// What xcauth has noted of a group need not be what the server has. The first answer leads to what
// is wanted all the same, whichever letter case was noted and however the server takes it.
func TestAdoptedGroup(t *testing.T) {
	for _, c := range []struct {
		name         string
		fold         string // the commands in which the server takes all letter cases for one
		noted, there []string
		want         []string
		sure         bool // adopted by a version that believed it
	}{
		{"the commands of xcauth failed", "add del", []string{"ann", "bob"}, nil, []string{"ann", "bob"}, false},
		{"somebody has left", "add del", []string{"ann", "bob", "eve"}, []string{"ann", "bob", "eve"}, []string{"ann", "bob"}, false},
		{"noted as the backend has it", "add del", []string{"Ann", "bob"}, []string{"ann", "bob"}, []string{"ann", "bob"}, false},
		{"kept as the backend has it", "", []string{"Ann", "bob"}, []string{"Ann", "bob"}, []string{"ann", "bob"}, false},
		{"kept so once", "add del", []string{"Ann", "bob"}, []string{"Ann", "bob"}, []string{"Ann", "ann", "bob"}, false},
		{"kept in both ways", "add del", []string{"Ann", "bob"}, []string{"Ann", "ann", "bob"}, []string{"Ann", "ann", "bob"}, false},
		{"believed as the backend has it", "add del", []string{"Ann", "bob"}, []string{"ann", "bob"}, []string{"ann", "bob"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake, state := newFake(), State{newMemory(), "d.example"}
			fake.fold = map[Command]bool{UserAdd: strings.Contains(c.fold, "add"), UserDel: strings.Contains(c.fold, "del")}
			fake.groups["G@d.example"] = addresses(c.there)
			ops, err := state.ImportGroup("G", addresses(c.noted))
			if c.sure {
				ops = []store.Op{state.putGroup("G", &Group{Members: addresses(c.noted)})}
			}
			if err == nil {
				err = state.Store.Apply(ops, true)
			}
			if err == nil {
				err = logsIn(NewServer(fake), state, &Filter{}, "ann", document("ann: G; bob: G"))
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := fake.groups["G@d.example"]; !slices.Equal(got, addresses(c.want)) {
				t.Errorf("the server has %q, want %q", got, c.want)
			}
			if g, known, err := state.Group("G"); err != nil || !known || g.Dirty || !slices.Equal(g.Members, addresses([]string{"ann", "bob"})) {
				t.Errorf("known is %+v, %v, %v", g, known, err)
			}
		})
	}
}

func addresses(users []string) (list []string) {
	for _, user := range users {
		list = append(list, user+"@d.example")
	}
	return list
}
