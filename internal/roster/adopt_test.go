package roster

import (
	"os"
	"path/filepath"
	"reflect"
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
	told := User{Named: true, Name: "Joe", Groups: []string{"Team"}}
	if n := apply(one.AdoptUser(joe, told)); n != 1 {
		t.Errorf("%d changes", n)
	}
	if n := apply(one.AdoptUser(joe, User{Named: true, Name: "Other"})); n != 0 {
		t.Errorf("what was known was changed %d times", n)
	}
	if u, err := one.User(Login(joe)); err != nil || !reflect.DeepEqual(u, told) {
		t.Errorf("%+v, %v", u, err)
	}
	both := Group{Members: []string{"ann@two.example", "joe@one.example"}}
	apply(one.AdoptGroup("Team", both))
	if n := apply(one.AdoptGroup("Team", Group{})); n != 0 {
		t.Errorf("what was known was changed %d times", n)
	}
	if g, known, err := one.Group("Team"); err != nil || !known || !reflect.DeepEqual(g, both) {
		t.Errorf("%+v, %v, %v", g, known, err)
	}
	apply(one.AdoptGroup("Alone", Group{Members: []string{"joe@one.example"}}))
	apply(two.AdoptUser(ann, User{}))
	apply(two.AdoptGroup("Far", Group{Members: []string{"x@three.example"}}))

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
	rest := Group{Members: []string{"joe@one.example"}, Unsure: true}
	if g, known, err := one.Group("Team"); err != nil || !known || !reflect.DeepEqual(g, rest) {
		t.Errorf("the group of who was erased: %+v, %v, %v", g, known, err)
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

// A user is erased who still is in a group at the backend. The others keep the group whatever
// is carried out next, nobody names the user meanwhile, and the answer of one of them, though
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
					t.Errorf("%q still names who was erased: %q", key, value)
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
