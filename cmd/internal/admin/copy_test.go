package admin

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"postern/internal/store"
)

// TestCopying: what a newer version has written is left alone, and what has no time is copied only to where there is none
// of its kind.
func TestCopying(t *testing.T) {
	open := func(records map[string]string) store.Store {
		t.Helper()
		s, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		for key, value := range records {
			if err := s.Apply([]store.Op{{Key: []byte(key), Value: []byte(value)}}, true); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	const newer = "\x63 a record of another layout"
	from := open(map[string]string{
		"cred/dom\x00joe": newer, "cred/dom\x00jim": newer, "nonce/1": "from", "nonce/2": "from",
		"domain/d": "from", "apppw/a": "from", "roster/r": "from",
	})
	to := open(map[string]string{"cred/dom\x00joe": newer + " of the target", "nonce/2": "to", "apppw/b": "to"})
	var n Copied
	if err := (&copying{from: from, to: to, n: &n}).run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if want := (Copied{Users: 1, Newer: 2, Tokens: 1, Others: 2, Occupied: 1}); n != want {
		t.Errorf("%+v, want %+v", n, want)
	}
	var all []string
	for _, kind := range []string{store.Credentials, store.Nonces, store.Domains, store.AppPasswords, store.Roster} {
		if err := to.Scan([]byte(kind), func(k, v []byte) bool {
			all = append(all, strings.ReplaceAll(string(k), "\x00", " ")+"="+strings.TrimPrefix(string(v), newer))
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := strings.Join(all, ", "), "cred/dom jim=, cred/dom joe= of the target, nonce/1=from, nonce/2=to, domain/d=from, apppw/b=to, roster/r=from"; got != want {
		t.Errorf("the target has %s", got)
	}
}
