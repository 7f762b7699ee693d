package cache

import (
	"testing"

	"postern/internal/auth"
	"postern/internal/store"
)

// TestRecordKeys: a key belongs to one user, and the prefix of a domain to no other domain.
func TestRecordKeys(t *testing.T) {
	for _, id := range []auth.Identity{{User: "joe", Domain: "dom.example"}, {User: "a b/c", Domain: "ü.example"}} {
		if got, ok := RecordIdentity(RecordKey(id)); !ok || got != id {
			t.Errorf("%+v came back as %+v, %v", id, got, ok)
		}
	}
	if _, ok := RecordIdentity([]byte(store.Credentials + "nothing")); ok {
		t.Error("a key without a user has one")
	}
	long := string(RecordKey(auth.Identity{User: "joe", Domain: "dom.example.org"}))
	if prefix := string(RecordPrefix("dom.example")); len(long) > len(prefix) && long[:len(prefix)] == prefix {
		t.Error("a domain's prefix takes in another domain")
	}
}
