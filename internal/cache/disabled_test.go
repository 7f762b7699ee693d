package cache

import (
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// TestDisabled: that an account is disabled is kept with its existence, and asked about again soon.
func TestDisabled(t *testing.T) {
	rules := &Rules{Exists: time.Hour, Absent: time.Minute, Outage: 24 * time.Hour}
	start := unixtime.At(time.Unix(1_800_000_000, 0))
	u := new(User)
	if u.SetDisabled(true) {
		t.Error("an account that is not known was disabled")
	}
	u.SetExists(true, Name{Account: "joe"}, auth.AuthorityID{1}, rules, start)
	if !u.SetDisabled(true) || u.SetDisabled(true) {
		t.Error("a change is none, or the same again is one")
	}
	u, err := Decode(u.Encode())
	if err != nil || !u.Exists.Disabled {
		t.Fatalf("the record has %+v, %v", u, err)
	}
	for after, want := range map[time.Duration]bool{0: true, time.Minute - 1: true, time.Minute: false} {
		a, ok := u.IsUser("joe", rules, start.Add(after))
		if ok != want || ok && (a.Verdict != auth.Allow || !a.Disabled) {
			t.Errorf("after %v: %v, %v", after, a, ok)
		}
	}
	if a, ok := u.IsUserGrace("joe", rules, start.Add(time.Hour)); !ok || !a.Disabled {
		t.Errorf("in grace: %v, %v", a, ok)
	}
	u.SetDisabled(false)
	if a, ok := u.IsUser("joe", rules, start.Add(time.Hour-time.Millisecond)); !ok || a.Disabled {
		t.Errorf("enabled again: %v, %v", a, ok)
	}
	u.SetDisabled(true)
	if !u.LetIn() || u.LetIn() {
		t.Error("an account is let in that was disabled: a change is none, or the same again is one")
	}
	if a, ok := u.IsUser("joe", rules, start); ok {
		t.Errorf("an account was disabled, and is let in: %v without a question", a)
	}
	u.SetExists(true, Name{Account: "joe"}, auth.AuthorityID{1}, rules, start)
	u.SetDisabled(true)
	u.SetExists(true, Name{Account: "joe"}, auth.AuthorityID{1}, rules, start)
	if u.Exists.Disabled {
		t.Error("an account that has logged in is disabled")
	}
}
