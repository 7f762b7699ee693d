package auth

import "testing"

// TestGroups: of the groups asked about it is known whether the account has them, and of no other.
func TestGroups(t *testing.T) {
	g := GroupsOf([]string{"mail", "staff", "chat room", "", "two\nlines"}, []string{"staff", "chat room", "board"})
	for name, want := range map[string][2]bool{
		"mail": {false, true}, "staff": {true, true}, "chat room": {true, true},
		"board": {false, false}, "": {false, false}, "two\nlines": {false, false}, "sta": {false, false}, "Staff": {false, false}, "chat": {false, false},
	} {
		if in, known := g.In(name); [2]bool{in, known} != want {
			t.Errorf("%q: in %t, known %t", name, in, known)
		}
	}
	for _, g := range []Groups{"", GroupsOf(nil, []string{"mail"}), "mail", "\n", "mail\n", "?mail\n", "+mail"} {
		if in, known := g.In("mail"); in || known {
			t.Errorf("%q knows a group", g)
		}
	}
	if n := testing.AllocsPerRun(100, func() { g.In("chat room") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
