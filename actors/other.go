package actors

import (
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/unixtime"
)

// finishOther ends the operations other than auth.
func (s *shard) finishOther(t *task, user *cache.User, r backend.Result, source auth.Source, now unixtime.Time) {
	c := t.call
	a := auth.Answer{Source: source, Body: r.Body}
	switch r.Class {
	case backend.Accepted:
		a.Verdict = auth.Allow
	case backend.Refused:
		a.Verdict = auth.Deny
	case backend.Unsupported:
		a.Verdict, a.Source = auth.Unsupported, auth.SourceUnsupported
	}
	lasting := false
	switch {
	case c.Req.Op == auth.OpIsUser:
		a = s.afterIsUser(t, user, r, a, now)
	case c.Req.Op.Changes():
		lasting = s.afterChange(t, user, r.Class)
	}
	s.note(c, a)
	s.deliver(t, cache.Step{Answer: a, Lasting: lasting})
}

func (s *shard) afterIsUser(t *task, user *cache.User, r backend.Result, a auth.Answer, now unixtime.Time) auth.Answer {
	id, rules := t.call.ID, &s.params.Load().rules
	switch r.Class {
	case backend.Accepted, backend.Refused:
		if s.outdated(t) || t.epoch != s.epoch {
			return a
		}
		if user.SetExists(r.Class == backend.Accepted, rules, now) {
			s.users.save(id, user)
		}
		s.users.place(id, user)
	case backend.Outage, backend.Throttled:
		if grace, ok := user.IsUserGrace(rules, now); ok {
			return grace
		}
	case backend.Unsure:
		// Nobody can be asked: who logged in within the outage lifetime is there.
		if known, ok := user.IsUserGrace(rules, now); ok {
			known.Source = auth.SourceCache
			return known
		}
	}
	return a
}

// afterChange keeps cache, router and limits true to a user that was changed at its backend, before
// anything that is asked after the change's answer: a password that was wrong may be right now.
// lasting reports that a crash must not bring back what was remembered, once somebody was told.
func (s *shard) afterChange(t *task, user *cache.User, class backend.Class) (lasting bool) {
	c := t.call
	switch class {
	case backend.Accepted:
		user.Forget()
		for _, h := range t.params.hops {
			h.backend.send(newLimitOp(func(p *purse) { p.budget.Forget(c.hash) }))
		}
	case backend.Refused, backend.Unsupported:
		return false
	default:
		// Whether it was carried out is not known: every password must be verified again.
		user.Invalidate()
	}
	s.epoch++
	s.broker.sys.Root.Send(s.router, &changed{user: c.hash, done: class == backend.Accepted})
	s.users.save(c.ID, user)
	s.users.place(c.ID, user)
	return true
}
