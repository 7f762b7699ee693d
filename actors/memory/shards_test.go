package memory

import (
	"context"
	"errors"
	"testing"
	"time"

	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
)

// remembered reports whether something is known of a user.
func (r *rig) remembered(id auth.Identity) bool {
	r.t.Helper()
	user, err := r.CachedUser(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return len(user.Verifiers) > 0
}

// TestForgetting: what each way of forgetting leaves in memory and on disk.
func TestForgetting(t *testing.T) {
	dom := func(id auth.Identity) bool { return id.Domain == "dom.example" }
	for name, c := range map[string]struct {
		forget       func(r *rig) error
		memory, disk bool // still known there
	}{
		"Drop":                {func(r *rig) error { return r.Drop(r.t.Context(), "dom.example", dom) }, false, true},
		"Drop, another block": {func(r *rig) error { return r.Drop(r.t.Context(), "*", dom) }, true, true},
		"Drop, another user": {func(r *rig) error {
			return r.Drop(r.t.Context(), "dom.example", func(auth.Identity) bool { return false })
		}, true, true},
		"DropBlock":           {func(r *rig) error { r.DropBlock("dom.example"); return r.Settle(r.t.Context()) }, false, true},
		"DropBlock, another":  {func(r *rig) error { r.DropBlock("*"); return r.Settle(r.t.Context()) }, true, true},
		"Forget":              {func(r *rig) error { return r.Forget(r.t.Context(), dom, cache.RecordPrefix("dom.example")) }, false, false},
		"ForgetUser":          {func(r *rig) error { return r.ForgetUser(r.t.Context(), account("joe")) }, false, false},
		"ForgetUser, another": {func(r *rig) error { return r.ForgetUser(r.t.Context(), account("jane")) }, true, true},
		"Forget, another block": {func(r *rig) error {
			return r.Forget(r.t.Context(), func(auth.Identity) bool { return false }, cache.RecordPrefix("x.example"))
		}, true, true},
	} {
		for storage, onDisk := range map[config.Storage]bool{config.StorageMemory: false, config.StorageDisk: true} {
			t.Run(name+map[bool]string{true: ", disk"}[onDisk], func(t *testing.T) {
				r := newRig(t, storage)
				joe := account("joe")
				r.learn(joe)
				if !r.remembered(joe) {
					t.Fatal("a login is not remembered")
				}
				if err := c.forget(r); err != nil {
					t.Fatal(err)
				}
				memory := false
				r.in(func(s *shard) { sp := s.spaces["dom.example"]; memory = sp != nil && sp.get(joe) != nil })
				if memory != c.memory {
					t.Errorf("in memory: %t, want %t", memory, c.memory)
				}
				if onDisk && r.onDisk(joe) != c.disk {
					t.Errorf("on disk: %t, want %t", !c.disk, c.disk)
				}
				if want := c.memory || onDisk && c.disk; r.remembered(joe) != want {
					t.Errorf("remembered: %t, want %t", !want, want)
				}
			})
		}
	}
}

// TestCachedUserIsACopy: what is shown of a user is not the shard's own, and nothing is shown of a
// user that nothing is known of.
func TestCachedUserIsACopy(t *testing.T) {
	r := newRig(t, config.StorageMemory)
	r.learn(account("joe"))
	user, err := r.CachedUser(t.Context(), account("joe"))
	if err != nil {
		t.Fatal(err)
	}
	user.Verifiers[0].Stale = true
	r.want(r.login(account("joe"), "good"), auth.Allow, auth.SourceHot)
	for _, id := range []auth.Identity{account("jane"), {User: "joe", Domain: "unserved.example"}} {
		if r.remembered(id) {
			t.Errorf("%v is remembered", id)
		}
	}
}

// TestShardsAreBusy: what is asked of a shard that has no time is given up with the context.
func TestShardsAreBusy(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	reached, release := make(chan struct{}), make(chan struct{})
	supervise.Do(r.Ref(0), func(*shard) { close(reached); <-release })
	<-reached
	over, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	joe := account("joe")
	for name, do := range map[string]func() error{
		"Settle":          func() error { return r.Settle(over) },
		"Drop":            func() error { return r.Drop(over, "dom.example", func(auth.Identity) bool { return true }) },
		"Forget":          func() error { return r.Forget(over, func(auth.Identity) bool { return true }, []byte("cred/")) },
		"ForgetUser":      func() error { return r.ForgetUser(over, joe) },
		"CachedUser":      func() error { _, err := r.CachedUser(over, joe); return err },
		"Stats":           func() error { _, err := r.Stats(over); return err },
		"ForgetUserLimit": func() error { return r.ForgetUserLimit(over, joe) },
	} {
		if err := do(); !errors.Is(err, supervise.ErrBusy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	close(release)
	r.learn(joe)
	if !r.onDisk(joe) { // a Forget that was given up hides nothing
		t.Error("records are hidden")
	}
}

// TestStoreWritten: that the disk fails is said once, and that it does not any more, too.
func TestStoreWritten(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	r.learn(account("joe"))
	fault := errors.New("disk full")
	for _, err := range []error{nil, fault, fault} {
		r.StoreWritten(err)
	}
	stats, err := r.Stats(t.Context())
	if n := stats["dom.example"].StoreFailing; err != nil || n != 1 || !r.logged("cannot be written") || r.logged("can be written again") {
		t.Errorf("%d shards fail, %v; the log: %s", n, err, r.log)
	}
	if r.StoreWritten(nil); !r.logged("can be written again") {
		t.Error("the log does not say that it is over")
	}
}
