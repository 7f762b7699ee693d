package memory

import (
	"testing"

	"postern/internal/auth"
)

// TestUnwritten: refusals of an account wait from the first that the store is to have until it has the last of these.
func TestUnwritten(t *testing.T) {
	var u unwritten
	joe, jim := auth.Identity{User: "joe", Domain: "d"}, auth.Identity{User: "jim", Domain: "d"}
	want := func(id auth.Identity, lasting, want bool) (written func()) {
		t.Helper()
		wait, written := u.note(id, lasting)
		if wait != want {
			t.Errorf("a refusal for %s, lasting: %t, waits: %t", id, lasting, wait)
		}
		return written
	}
	want(joe, false, false)
	first := want(joe, true, true)
	guess := want(joe, false, true)
	want(jim, false, false)
	second := want(joe, true, true)
	first()
	guess()
	want(joe, false, true)
	second()
	want(joe, false, false)
	if len(u.of) != 0 {
		t.Errorf("%v are left", u.of)
	}
}
