package auth

import (
	"slices"
	"testing"
)

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

// Members are those of the groups asked about in which the account is, in that order.
func TestMembers(t *testing.T) {
	for _, c := range []struct {
		asked, has, want []string
	}{
		{nil, []string{"a"}, nil},
		{[]string{"a", "b c", "d"}, []string{"d", "a", "x"}, []string{"a", "d"}},
		{[]string{"a"}, nil, nil},
		{[]string{"-a", "+b"}, []string{"+b"}, []string{"+b"}},
	} {
		if got := GroupsOf(c.asked, c.has).Members(); !slices.Equal(got, c.want) {
			t.Errorf("of %q, with %q: %q, want %q", c.asked, c.has, got, c.want)
		}
	}
	for _, odd := range []Groups{"\n", "+", "+\n", "x", "\n\n"} {
		if got := odd.Members(); len(got) > 1 {
			t.Errorf("%q: %q", odd, got)
		}
	}
}
