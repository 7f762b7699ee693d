package actors

import (
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/unixtime"
)

// conclude tells a login's flow what all its backends came to.
func (s *shard) conclude(f *finished, user *cache.User, result backend.Result, now unixtime.Time) {
	t := f.task
	if s.outdated(t) {
		t.flow.Outdate()
	}
	if t.epoch != s.epoch {
		t.flow.Supersede()
	}
	if t.chain.Suspect() {
		t.flow.Suspect()
	}
	outcome, source := outcomeOf(result.Class, f.busy), f.source
	if t.short && result.Class != backend.Accepted && result.Class != backend.Refused {
		outcome, source = cache.Withheld, auth.SourceLimitBudget
	}
	s.apply(t, user, t.flow.BackendAnswered(user, outcome, source, &s.params.Load().rules, now))
}

// outcomeOf is what a backend's answer means to the cache.
func outcomeOf(c backend.Class, busy bool) cache.Outcome {
	switch c {
	case backend.Accepted:
		return cache.Accepted
	case backend.Refused:
		return cache.Refused
	case backend.Misconfigured:
		return cache.Misconfigured
	case backend.Unsupported:
		return cache.Unsupported
	}
	if busy {
		return cache.Busy
	}
	return cache.CannotAnswer
}
