package actors

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/store"
)

// heldStore is a store that holds each sync until the test lets it go on.
type heldStore struct {
	store.Store
	syncs chan chan struct{}
}

func (h *heldStore) Apply(ops []store.Op, sync bool) error {
	if sync {
		through := make(chan struct{})
		h.syncs <- through
		<-through
	}
	return h.Store.Apply(ops, sync)
}

// TestRefusalLasts: the refusal of a remembered password is answered when the password is gone from
// disk, so that no crash brings it back; also when only its hash is known, which takes a comparison.
// All others are answered at once.
func TestRefusalLasts(t *testing.T) {
	for _, hashOnly := range []bool{false, true} {
		t.Run(fmt.Sprint("hash only ", hashOnly), func(t *testing.T) {
			g, disk := newScriptedBackend("good"), openStore(t)
			held := &heldStore{disk, make(chan chan struct{})}
			build := func() *rig { return newRig(t, func(s *setup) { onDisk(s, held); g.use(s) }) }
			r := build()
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r.want(r.auth("joe", "other"), deny, fromBackend)
			r.hashed("joe", 1)
			if hashOnly {
				r.stop()
				r = build()
			}
			g.change("new")
			r.clock.advance(2 * time.Hour)
			answer := r.start("joe", "good")
			select {
			case through := <-held.syncs:
				select {
				case a := <-answer:
					t.Errorf("answered %v (%v) before the refusal was on disk", a.Verdict, a.Source)
				default:
				}
				close(through)
			case a := <-answer:
				t.Fatalf("answered %v (%v) without a sync", a.Verdict, a.Source)
			}
			r.want(<-answer, deny, fromBackend)
			if u := onDiskOf(t, disk, "joe"); u != nil && len(u.Verifiers) > 0 {
				t.Error("the verifier is still on disk")
			}
		})
	}
}

// TestChangeLasts: the change or removal of an account is answered when its password is gone from
// disk.
func TestChangeLasts(t *testing.T) {
	for _, op := range []auth.Operation{auth.OpSetPass, auth.OpRemoveUser} {
		t.Run(op.String(), func(t *testing.T) {
			disk := openStore(t)
			held := &heldStore{disk, make(chan chan struct{})}
			r := newRig(t, func(s *setup) {
				onDisk(s, held)
				s.fake.ask = verdictOf(backend.Result{Class: backend.Accepted})
			})
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r.hashed("joe", 1)
			req := login("joe", "new")
			if req.Op = op; op == auth.OpRemoveUser {
				req.Secret = auth.Secret{}
			}
			answer := make(chan auth.Answer, 1)
			go func() { answer <- r.ask(req) }()
			select {
			case through := <-held.syncs:
				select {
				case a := <-answer:
					t.Errorf("answered %v (%v) before the change was on disk", a.Verdict, a.Source)
				default:
				}
				close(through)
			case a := <-answer:
				t.Fatalf("answered %v (%v) without a sync", a.Verdict, a.Source)
			}
			r.want(<-answer, allow, fromBackend)
			if u := onDiskOf(t, disk, "joe"); u != nil && len(u.Verifiers) > 0 {
				t.Error("the verifier is still on disk")
			}
		})
	}
}

// TestRefusalBehindStalledDisk: while the disk stalls and no more callers may wait for it, the refusal
// of a remembered password is a temporary failure, since a crash would bring the password back.
func TestRefusalBehindStalledDisk(t *testing.T) {
	g, disk := newScriptedBackend("good"), openStore(t)
	held := &heldStore{disk, make(chan chan struct{})}
	r := newRig(t, func(s *setup) { onDisk(s, held); g.use(s) })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)
	g.change("new")
	r.clock.advance(2 * time.Hour)
	writes := r.env.Disk()
	writes.Flush(func(error) {})
	stalled := <-held.syncs
	var waits sync.WaitGroup
	for full := new(atomic.Bool); !full.Load(); {
		waits.Add(1)
		writes.Flush(func(err error) {
			full.CompareAndSwap(false, errors.Is(err, store.ErrBusy))
			waits.Done()
		})
	}
	r.want(r.auth("joe", "good"), unavailable, auth.SourceOverload)
	close(stalled)
	through := make(chan struct{})
	go func() { waits.Wait(); close(through) }()
	for stalls := true; stalls; {
		select {
		case sync := <-held.syncs:
			close(sync)
		case <-through:
			stalls = false
		}
	}
	r.want(r.auth("joe", "good"), deny, auth.SourceRefusedBefore)
}

// TestWrongPasswordKeepsHashes: a wrong password keeps the hashes off the disk only until it is known
// to match none of them.
func TestWrongPasswordKeepsHashes(t *testing.T) {
	g, disk := newScriptedBackend("good"), openStore(t)
	build := func() *rig { return newRig(t, func(s *setup) { onDisk(s, disk); g.use(s) }) }
	r := build()
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)
	r.stop()
	r = build()
	r.want(r.auth("joe", "wrong"), deny, fromBackend)
	eventually(t, "the hash on disk again", func() bool { u := onDiskOf(t, disk, "joe"); return u != nil && len(u.Verifiers) == 1 })
}
