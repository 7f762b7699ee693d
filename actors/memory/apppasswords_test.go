package memory

import (
	"testing"
	"time"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/unixtime"
)

// TestUnsavedAppPasswords: a revocation that cannot be stored is in force all the same, whatever is pushed out of
// memory and when the shard restarts, and is stored as soon as that is possible.
func TestUnsavedAppPasswords(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	id, now := account("joe"), unixtime.At(time.Now())
	change := func(run func(*apppassword.Account) (bool, error)) error { return r.AppPasswords(t.Context(), id, run) }
	err := change(func(a *apppassword.Account) (bool, error) {
		_, _, err := a.Add(apppassword.NewKey(auth.NewSecret("key")), id.Domain, id.User, apppassword.New{Name: "phone"}, now)
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.disk.fails.Store(true)
	if err := change(func(a *apppassword.Account) (bool, error) {
		_, err := a.Revoke(id.User, "", now)
		return true, err
	}); err == nil {
		t.Fatal("the store has not failed")
	}
	onDisk := func() bool {
		a, err := apppassword.Read(r.disk, id)
		return err == nil && a.Alive(id.User, now)
	}
	alive := func() (alive bool) {
		if err := change(func(a *apppassword.Account) (bool, error) {
			alive = a.Alive(id.User, now)
			return false, nil
		}); err != nil {
			t.Fatal(err)
		}
		return alive
	}
	for range 3 {
		r.in(func(s *shard) { s.apps.held.Purge() })
		if alive() || !onDisk() {
			t.Fatal("it is alive again, or revoked on the disk that fails")
		}
		written := make(chan error, 1)
		r.in(func(s *shard) { s.flushApps() })
		r.env.Disk().Flush(func(err error) { written <- err })
		if <-written == nil {
			t.Fatal("the store has not failed")
		}
	}
	r.failOnce(func(message any) bool { _, is := message.(*appChange); return is })
	if err := change(func(*apppassword.Account) (bool, error) { return false, nil }); err == nil {
		t.Fatal("the shard has not panicked")
	}
	r.restarted()
	if alive() {
		t.Fatal("it is alive after a restart")
	}
	r.disk.fails.Store(false)
	eventually(t, "a write of the revocation", func() bool {
		kept := 0
		r.in(func(s *shard) { s.flushApps(); kept = len(s.apps.unsaved) })
		return kept == 0
	})
	r.in(func(s *shard) { s.apps.held.Purge() })
	if onDisk() || alive() {
		t.Error("the revocation is lost")
	}
}

// TestUnreadableAppPasswords: a store that fails is said once in a while, not once per login.
func TestUnreadableAppPasswords(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	r.disk.panic.Store(true)
	for range 20 {
		if err := r.AppPasswords(t.Context(), account("joe"), nil); err == nil {
			t.Fatal("the store has not failed")
		}
	}
	r.disk.panic.Store(false)
	if n := r.count("app passwords cannot be read"); n < 1 || n == 20 {
		t.Errorf("said %d times", n)
	}
}
