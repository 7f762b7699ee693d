package apppassword

import (
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// TestCount: only what is alive counts, and what is under another key is found.
func TestCount(t *testing.T) {
	now := time.Date(2030, 5, 17, 12, 0, 0, 0, time.UTC)
	at := unixtime.At(now)
	key := NewKey(auth.NewSecret(strings.Repeat("a", KeySize)))
	other := NewKey(auth.NewSecret(strings.Repeat("b", KeySize)))
	id := auth.Identity{User: "joe", Domain: "dom.example"}
	var a Account
	for name, n := range map[string]struct {
		key     *Key
		expires time.Time
	}{"alive": {key, time.Time{}}, "strange": {other, time.Time{}}, "revoked": {other, time.Time{}}, "expired": {other, now.Add(time.Hour)}} {
		if _, _, err := a.Add(n.key, id.Domain, id.User, New{Name: name, Expires: n.expires}, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Revoke(id.User, "revoked", at); err != nil {
		t.Fatal(err)
	}
	var c Count
	later := unixtime.At(now.Add(2 * time.Hour))
	c.Add(a.Encode(), key, later)
	c.Add([]byte("nonsense"), key, later)
	if want := (Count{Alive: 2, Strange: 1, Unreadable: 1}); c != want {
		t.Errorf("%+v, want %+v", c, want)
	}
	if got := RecordDomain(RecordKey(id)); got != id.Domain {
		t.Errorf("the domain %q", got)
	}
}
