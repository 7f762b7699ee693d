package harness

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/cache"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// Remember writes into the store of a data directory that the users user0, user1 and so on of a domain have logged in
// with the password secret a moment ago. A daemon that made their hashes itself would take minutes.
func Remember(t *testing.T, dataDir, domain string, users, cost int) {
	t.Helper()
	hash, err := passhash.New("secret", cost)
	if err != nil {
		t.Fatal(err)
	}
	p, err := store.OpenPebble(filepath.Join(dataDir, "store"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := unixtime.At(time.Now())
	ops := []store.Op{{Key: []byte(cache.Unclaimed), Value: []byte{1}}} // the daemon's backend vouches for them
	for i := range users {
		id := auth.Identity{User: fmt.Sprint("user", i), Domain: domain}
		u := cache.User{Verifiers: []cache.Verifier{{Name: cache.Name{Account: id.User}, Hash: hash, First: now, Verified: now, Used: now}}}
		ops = append(ops, store.Op{Key: cache.RecordKey(id), Value: u.Encode()})
	}
	if err := p.Apply(ops, true); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}
