package memory

import (
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/call"
	"postern/actors/domain"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

func always(c backend.Class) answers { return func(backend.Query) backend.Class { return c } }

// TestReplacedMeanwhile: a call whose domain gets another value just when its question is about to
// be put is sent on its way again, and answered.
func TestReplacedMeanwhile(t *testing.T) {
	r := newReplaceRig(t, nil)
	b := r.backend("one", always(backend.Accepted))
	old, fresh := r.domain("dom.example", config.StorageMemory, b), r.domain("dom.example", config.StorageMemory, b)
	var now atomic.Pointer[domain.Domain]
	now.Store(old)
	r.lookup = func(string) *domain.Domain {
		d := now.Load()
		if now.CompareAndSwap(old, fresh) { // a reload comes after the look
			old.Retire()
		}
		return d
	}
	r.moved = func(c *call.Call) { c.Domain = fresh; r.Ref(c.Hash).Send(c) }
	r.want(r.ask(auth.OpAuth, "good", old), auth.Allow, auth.SourceBackend)
	r.idle()
}

// TestJoinAcrossBlocks: a question does not get the answer of another block's backend, which was
// asked before the name had a block of its own.
func TestJoinAcrossBlocks(t *testing.T) {
	r := newReplaceRig(t, nil)
	arrived, release := make(chan struct{}), make(chan struct{})
	star := r.domain("*", config.StorageMemory, r.backend("star", func(backend.Query) backend.Class {
		close(arrived)
		<-release
		return backend.Refused
	}))
	own := r.domain("dom.example", config.StorageMemory, r.backend("own", always(backend.Accepted)))
	var now atomic.Pointer[domain.Domain]
	now.Store(star)
	r.lookup = func(string) *domain.Domain { return now.Load() }
	before := r.ask(auth.OpAuth, "good", star)
	<-arrived
	now.Store(own)
	after := r.ask(auth.OpAuth, "good", own)
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	r.want(after, auth.Allow, auth.SourceBackend)
	r.want(before, auth.Deny, auth.SourceBackend)
	r.idle()
}

// TestRestartBesideChange: what a backend said of a user before the user was removed is not
// remembered, even if the shard panics meanwhile.
func TestRestartBesideChange(t *testing.T) {
	r := newReplaceRig(t, nil)
	arrived, release := make(chan struct{}), make(chan struct{})
	var removed atomic.Bool
	d := r.domain("dom.example", config.StorageMemory, r.backend("one", func(q backend.Query) backend.Class {
		switch {
		case q.Op == auth.OpRemoveUser:
			removed.Store(true)
		case removed.Load():
			return backend.Refused
		default:
			close(arrived)
			<-release
		}
		return backend.Accepted
	}))
	r.lookup = func(string) *domain.Domain { return d }
	before := r.ask(auth.OpIsUser, "", d)
	<-arrived
	r.want(r.ask(auth.OpRemoveUser, "", d), auth.Allow, auth.SourceBackend)
	var once atomic.Bool
	<-supervise.Do(r.refs[0], func(*shard) {
		if once.CompareAndSwap(false, true) {
			panic("as the test wants it")
		}
	}).Done()
	r.restarted()
	close(release)
	r.want(before, auth.Allow, auth.SourceBackend)
	r.want(r.ask(auth.OpIsUser, "", d), auth.Deny, auth.SourceBackend)
}

// TestPanicAtBegin: a task that begins while its shard panics holds neither router nor domain any more.
func TestPanicAtBegin(t *testing.T) {
	r := newReplaceRig(t, nil)
	d := r.domain("dom.example", config.StorageMemory, r.backend("one", always(backend.Accepted)))
	r.lookup = func(string) *domain.Domain { return d }
	var looks atomic.Int64
	r.clock = func() time.Time {
		if looks.Add(1) == 2 { // by the limits, after the look into memory
			panic("as the test wants it")
		}
		return time.Now()
	}
	r.want(r.ask(auth.OpAuth, "good", d), auth.Unavailable, auth.SourcePanic)
	r.restarted()
	r.idle()
	r.want(r.ask(auth.OpAuth, "good", d), auth.Allow, auth.SourceBackend)
	r.idle()
	if n := d.Holders(); n != 0 {
		t.Errorf("%d tasks hold the domain", n)
	}
}
