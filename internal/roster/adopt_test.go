package roster

import (
	"reflect"
	"testing"

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
	if _, known, _ := one.Group("Team"); known {
		t.Error("a group still names who was erased")
	}
	if _, known, _ := one.Group("Alone"); !known {
		t.Error("a group that does not name her is gone")
	}
	erase(auth.Identity{Domain: "three.example"}, Erased{Groups: 1})
	erase(auth.Identity{Domain: "one.example"}, Erased{Users: 1, Groups: 1})
	left := 0
	if err := s.Scan(nil, func([]byte, []byte) bool { left++; return true }); err != nil || left != 0 {
		t.Errorf("%d records are left, %v", left, err)
	}
}
