package memory

import (
	"errors"
	"sync/atomic"

	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// load is the read of a user's record, on a goroutine of its own, so that no shard waits for the
// disk. The first call that wants the record goes on from there: where nothing is stored of the
// user its question goes straight to the backend, without another turn of the shard. Others wait
// in the shard, which is woken only if there are any.
type load struct {
	shards *Shards
	shard  *supervise.Ref
	id     auth.Identity
	disk   *store.WriteBehind
	term   uint64 // of a shared store, when it began
	again  *space // in which the user is that another process has changed; nil: it is read for a call
	lead   *task  // its first step is decided beside the read; may be nil

	user   atomic.Pointer[cache.User] // nil until it is read; from then on it is the shard's
	former bool                       // the record is one that may lack a later change; set with user
	away   bool                       // a shared store did not answer in time; set with user
	wanted atomic.Bool                // an outcome waits in the shard

	// For the shard's goroutine only.
	waiting []*outcome
	current *outcome // taken from waiting
	tries   int
}

// read is the goroutine of a load.
func (l *load) read() {
	user := l.record()
	lead := l.lead
	step, ok := l.decide(user)
	l.user.Store(user) // not to be touched from here on
	if l.wanted.Load() {
		l.shard.Send(&loaded{l})
	}
	switch {
	case lead == nil:
	case !ok:
		l.shard.Send(&outcome{task: lead, kind: started})
	case step.Answered || step.Save || step.Touched:
		l.shard.Send(&outcome{task: lead, kind: decided, step: step})
	case step.Do == cache.Ask:
		lead.known = step.Known
		backend, question := lead.question()
		backend.Ref.Send(question)
	case step.Do == cache.Compare:
		lead.compare(&step)
	default:
		l.shard.Send(&outcome{task: lead, kind: decided, step: step})
	}
}

// decide takes the first step of the task that leads. It is false after a panic: the shard, which is
// restarted after one, is then to try it.
func (l *load) decide(user *cache.User) (step cache.Step, ok bool) {
	if l.lead == nil {
		return step, true
	}
	defer func() {
		if reason := recover(); reason != nil {
			l.shards.env.Log.Error("deciding about a cache record panicked", "panic", supervise.PanicText(reason))
		}
	}()
	user.Settle(&l.lead.domain.Rules)
	return l.lead.firstStep(user), true
}

// record reads and decodes. A record that makes no sense is as good as none: a question to the
// backend makes a new one.
func (l *load) record() (user *cache.User) {
	log := l.shards.env.Log
	defer func() {
		if reason := recover(); reason != nil {
			log.Error("cache record ignored: reading it panicked", "domain", l.id.Domain, "user", l.id.User, "panic", supervise.PanicText(reason))
			user = new(cache.User)
		}
	}()
	user, r, err := readRecord(l.disk, l.id)
	user.Version, user.Seen = r.Version, l.term
	if l.former = r.Former; l.former {
		user.Distrust()
	}
	if l.away = errors.Is(err, store.ErrAway); l.away { // which the store says once
		return user
	}
	if err != nil {
		log.Warn("cache record ignored", "domain", l.id.Domain, "user", l.id.User, "err", err)
	}
	return user
}

// readRecord returns what is stored of a user, which may be nothing, and the record. The user is never nil.
func readRecord(disk *store.WriteBehind, id auth.Identity) (*cache.User, store.Record, error) {
	record, err := disk.Read(cache.RecordKey(id))
	if err == nil {
		var user *cache.User
		if user, err = cache.Decode(record.Value); err == nil {
			return user, record, nil
		}
	}
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrFailed) { // which the store says once
		err = nil
	}
	return new(cache.User), store.Record{}, err
}

// loaded has the outcomes that wait for a record go on.
type loaded struct{ *load }

var _ supervise.Continuation = (*loaded)(nil)

// Continues implements supervise.Continuation.
func (*loaded) Continues() {}

// Fail implements supervise.Request. It runs on the shard's goroutine, or after its end.
func (l *loaded) Fail(why supervise.Reason) {
	if l.current != nil {
		l.current.Fail(why)
		l.current = nil
	}
	if why == supervise.Panicked && l.tries < attempts+len(l.waiting) {
		l.tries++
		l.shard.Send(l)
		return
	}
	supervise.FailAll(l.waiting, why)
	l.waiting = nil
}
