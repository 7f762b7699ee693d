package cache

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// formerStore copies a store that postern 0.1.0 has written. In dom.example it has Vera, vera and VERA,
// with a password each, joe with two, Carl with one, and a damaged record; in gone.example it has ann.
func formerStore(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(dir, os.DirFS("testdata/store-0.1.0")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// users reads the records of a store.
func users(t *testing.T, s store.Store) map[string]*User {
	t.Helper()
	all := map[string]*User{}
	err := s.Scan([]byte(store.Credentials), func(key, value []byte) bool {
		id, _ := RecordIdentity(key)
		user, err := Decode(value)
		if err != nil {
			t.Errorf("%v: %v", id, err)
		}
		all[id.String()] = user
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestUpgrade: a store of 0.1.0 gets one record for all spellings of a user, and the passwords of several
// are verified again and have no grace.
func TestUpgrade(t *testing.T) {
	dir := formerStore(t)
	var log strings.Builder
	p, err := Open(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	whole := auth.Authority{ID: authority(7), Folds: true}
	claim := func() {
		err := Claim(p, func(domain string) (auth.Authority, bool) { return whole, domain == "dom.example" })
		if err != nil {
			t.Fatal(err)
		}
	}
	claim()
	all := users(t, p)
	now := unixtime.At(time.Date(2026, 1, 31, 12, 10, 0, 0, time.UTC))
	rules := defaults()
	rules.Authorities = []auth.Authority{whole}
	for name, want := range map[string]struct {
		accounts     string
		fresh, grace int
	}{
		"vera@dom.example": {"VERA vera Vera", 0, 0},
		"joe@dom.example":  {"joe joe", 2, 2},
		"carl@dom.example": {"Carl", 0, 1},
		"ann@gone.example": {"", 0, 0}, // no backend vouches for her
	} {
		u := all[name]
		u.Settle(rules)
		var accounts []string
		fresh, grace := 0, 0
		for _, v := range u.Verifiers {
			accounts = append(accounts, v.Account)
			if v.fresh(rules, "", now) {
				fresh++
			}
			if v.grace(rules, now) {
				grace++
			}
		}
		if got := strings.Join(accounts, " "); got != want.accounts || fresh != want.fresh || grace != want.grace {
			t.Errorf("%s: %q, %d fresh, %d with grace; want %+v", name, got, fresh, grace, want)
		}
	}
	if len(all) != 4 {
		t.Errorf("%d records, want 4", len(all))
	}
	if !strings.Contains(log.String(), dir+"-0.1.0") {
		t.Errorf("the log does not name the copy: %s", log.String())
	}
	whole.ID = authority(8) // a later start: what is claimed stays as it is
	claim()
	if u := users(t, p)["joe@dom.example"]; u.Verifiers[0].By != authority(7) {
		t.Errorf("claimed again: %+v", u)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	former, err := store.UpgradePebble(dir+"-0.1.0", slog.New(slog.DiscardHandler), func(s store.Store) error {
		n := 0
		err := s.Scan([]byte(store.Credentials), func(_, value []byte) bool { n++; return true })
		if n != 7 {
			t.Errorf("the copy has %d records, want 7", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = former.Close()
}

// failing is a store that fails at the n-th write.
type failing struct {
	store.Store
	left int
}

func (f *failing) Apply(ops []store.Op, sync bool) error {
	if f.left--; f.left < 0 {
		return os.ErrPermission
	}
	return f.Store.Apply(ops, sync)
}

// TestUpgradeInterrupted: an upgrade that ends anywhere goes on at the next start, to the same result.
func TestUpgradeInterrupted(t *testing.T) {
	want := []string{"ann@gone.example", "carl@dom.example", "joe@dom.example", "vera@dom.example"}
	for writes := range 3 {
		dir := formerStore(t)
		p, err := store.UpgradePebble(dir, slog.New(slog.DiscardHandler), func(s store.Store) error { return Upgrade(&failing{s, writes}) })
		if (err == nil) != (writes == 2) { // it takes two
			t.Fatalf("%d writes: %v", writes, err)
		}
		if err == nil {
			_ = p.Close()
			continue
		}
		p, err = Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		all := users(t, p)
		var names []string
		for name := range all {
			names = append(names, name)
		}
		slices.Sort(names)
		if !slices.Equal(names, want) || len(all["vera@dom.example"].Verifiers) != 3 {
			t.Errorf("after %d writes: %q", writes, names)
		}
		if copies, _ := filepath.Glob(dir + "-*"); len(copies) != 1 {
			t.Errorf("copies: %q", copies)
		}
		_ = p.Close()
	}
}
