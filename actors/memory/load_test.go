package memory

import (
	"testing"

	"postern/actors/call"
	"postern/internal/auth"
	"postern/internal/config"
)

// known is a rig whose memory has nothing of joe, and the disk a record of him.
func known(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, config.StorageDisk)
	r.learn(account("joe"))
	r.in(func(s *shard) { s.spaces["dom.example"].drop(func(auth.Identity) bool { return true }) })
	if !r.onDisk(account("joe")) {
		t.Fatal("the record was not written")
	}
	r.disk.reads.Store(0)
	return r
}

// flushed waits until the disk has what was put, so that reads reach it.
func (r *rig) flushed() {
	r.t.Helper()
	done := make(chan error, 1)
	r.env.Disk().Flush(func(err error) { done <- err })
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
}

// TestOneReadForMany: the calls for a user whose record is read wait for the one read.
func TestOneReadForMany(t *testing.T) {
	r := known(t)
	r.flushed()
	g := r.disk.hold()
	leader := r.login(account("joe"), "good")
	<-g.reached
	waiters := []*call.Call{r.login(account("joe"), "bad"), r.login(account("joe"), "worse"), r.login(account("joe"), "good")}
	r.in(func(s *shard) {
		if l := s.loads[account("joe")]; l == nil || len(l.waiting) != 2 { // the fourth joined the first
			t.Errorf("the load: %+v", l)
		}
	})
	close(g.release)
	r.want(leader, auth.Allow, auth.SourceCache)
	r.want(waiters[0], auth.Deny, auth.SourceBackend)
	r.want(waiters[1], auth.Deny, auth.SourceBackend)
	r.want(waiters[2], auth.Allow, auth.SourceCoalesced)
	r.idle()
	if n := r.disk.reads.Load(); n != 1 {
		t.Errorf("%d reads", n)
	}
	r.in(func(s *shard) {
		if len(s.loads) != 0 || len(s.flights) != 0 {
			t.Errorf("%d loads and %d flights are left", len(s.loads), len(s.flights))
		}
	})
}

// TestForgottenWhileRead: a record that is forgotten while it is read answers no login that comes
// after, nor the one that had it read.
func TestForgottenWhileRead(t *testing.T) {
	for name, forget := range map[string]func(r *rig) error{
		"the user": func(r *rig) error { return r.ForgetUser(r.t.Context(), account("joe")) },
		"all": func(r *rig) error {
			return r.Forget(r.t.Context(), func(auth.Identity) bool { return true }, []byte("cred/"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := known(t)
			r.flushed()
			g := r.disk.hold()
			leader := r.login(account("joe"), "good")
			<-g.reached
			waiter := r.login(account("joe"), "new")
			if err := forget(r); err != nil {
				t.Fatal(err)
			}
			r.fake.set("new")
			r.disk.gate.Store(nil)
			late := r.login(account("joe"), "new2")
			close(g.release)
			r.want(leader, auth.Deny, auth.SourceBackend)
			r.want(waiter, auth.Allow, auth.SourceBackend)
			r.want(late, auth.Deny, auth.SourceBackend)
			r.idle()
			r.want(r.login(account("joe"), "new"), auth.Allow, auth.SourceHot)
		})
	}
}

// TestReadPanics: a record that cannot be read, or makes no sense, is as good as none.
func TestReadPanics(t *testing.T) {
	for name, spoil := range map[string]func(r *rig){
		"a panic":   func(r *rig) { r.disk.panic.Store(true) },
		"no record": func(r *rig) { r.stored(account("joe"), []byte("\xff nonsense")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := known(t)
			r.flushed()
			spoil(r)
			r.want(r.login(account("joe"), "good"), auth.Allow, auth.SourceBackend)
			if !r.logged("cache record ignored") {
				t.Error("the log says nothing")
			}
		})
	}
}

// TestShardPanicsWhileReading: the calls that wait for a record are answered although the shard
// that they wait in panics and is restarted.
func TestShardPanicsWhileReading(t *testing.T) {
	for name, is := range map[string]func(any) bool{
		"when the record comes": func(m any) bool { _, ok := m.(*loaded); return ok },
		"when an outcome comes": func(m any) bool { _, ok := m.(*outcome); return ok },
		"before anything else":  func(m any) bool { _, ok := m.(*flushTick); return ok },
	} {
		t.Run(name, func(t *testing.T) {
			r := known(t)
			r.flushed()
			g := r.disk.hold()
			leader := r.login(account("joe"), "good")
			<-g.reached
			waiter := r.login(account("joe"), "bad")
			r.in(func(*shard) {})
			r.failOnce(is)
			r.Ref(0).Send(&flushTick{})
			close(g.release)
			r.want(leader, auth.Allow, auth.SourceCache)
			r.want(waiter, auth.Deny, auth.SourceBackend)
			r.idle()
			r.restarted()
			r.want(r.login(account("joe"), "good"), auth.Allow, auth.SourceHot)
		})
	}
}
