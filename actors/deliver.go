package actors

import (
	"errors"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// deliver answers a task's call, if it must last then when what was saved is on disk. A disk that
// fails is known from the save, and keeps nobody waiting; one that only stalls takes the answer
// away from those for whom there is no more room to wait.
func (s *shard) deliver(t *task, step cache.Step) {
	disk := s.users.onDisk()
	if !step.Lasting || disk == nil || s.users.failing {
		s.finish(t, step.Answer)
		return
	}
	leave, give := s.leaving(t, step.Answer), s.leaving(t, auth.Answer{Source: auth.SourceOverload})
	disk.journal.Apply(nil, func(err error) {
		if errors.Is(err, store.ErrBusy) {
			give()
			return
		}
		leave()
	})
}

// finish answers a task's call, and lets the router forget it.
func (s *shard) finish(t *task, a auth.Answer) { s.leaving(t, a)() }

// leaving is what finish does, for whatever goroutine knows that the time has come.
func (s *shard) leaving(t *task, a auth.Answer) func() {
	d, c := s.domain, t.call
	done := &landed{c.Key, c, t.flow != nil && t.chain.Refused()}
	return func() {
		c.Answer(a)
		if !c.Req.Op.Changes() {
			d.broker.sys.Root.Send(d.router, done)
		}
	}
}
