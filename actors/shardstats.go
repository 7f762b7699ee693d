package actors

import "postern/internal/auth"

// ShardStats counts what a part of a domain's cache did since it was started.
type ShardStats struct {
	Users         int    `json:"users"`          // in memory, of whom more than refusals is known
	Strangers     int    `json:"strangers"`      // in memory, of whom only refusals are known
	Hot           uint64 `json:"hot"`            // answered from memory or by a stored hash
	Missed        uint64 `json:"missed"`         // not in memory
	Compares      uint64 `json:"compares"`       // comparisons with stored hashes
	Hashes        uint64 `json:"hashes"`         // new hashes
	BackendAsked  uint64 `json:"backend_asked"`  // questions to backends
	Graces        uint64 `json:"graces"`         // answered because the backend could not
	Refusals      uint64 `json:"refusals"`       // refused by a backend
	RefusedBefore uint64 `json:"refused_before"` // refused from memory
	LimitUser     uint64 `json:"limit_user"`     // not asked about, for the user's limit
	LimitAddress  uint64 `json:"limit_address"`  // likewise, for that of the client's address
	LimitBudget   uint64 `json:"limit_budget"`   // likewise, for a backend's budget
	StoreFailing  uint64 `json:"store_failing"`  // parts whose last write to disk failed
}

// note counts an answer of the cache or of a limit.
func (s *shard) note(c *Call, a auth.Answer) {
	switch a.Source {
	case auth.SourceHot, auth.SourceCache:
		s.count.Hot++
	case auth.SourceRefusedBefore:
		s.count.RefusedBefore++
	case auth.SourceGrace:
		s.count.Graces++
	case auth.SourceLimitUser:
		s.count.LimitUser++
		s.byUser.Add(1)
	case auth.SourceLimitAddress:
		s.count.LimitAddress++
		s.byAddress.Add(1)
	case auth.SourceLimitBudget:
		s.count.LimitBudget++
		s.byBudget.Add(1)
	}
	if c.Trace != nil {
		c.Trace.Add("cache", a.Verdict.String()+" ("+a.Source.String()+")")
	}
}

func (s *shard) stats() ShardStats {
	c := s.count
	c.Users, c.Strangers = s.users.known.Len(), s.users.strangers.Len()
	if s.users.failing {
		c.StoreFailing = 1
	}
	return c
}

func (a *ShardStats) add(b ShardStats) {
	a.Users += b.Users
	a.Strangers += b.Strangers
	a.Hot += b.Hot
	a.Missed += b.Missed
	a.Compares += b.Compares
	a.Hashes += b.Hashes
	a.BackendAsked += b.BackendAsked
	a.Graces += b.Graces
	a.Refusals += b.Refusals
	a.RefusedBefore += b.RefusedBefore
	a.LimitUser += b.LimitUser
	a.LimitAddress += b.LimitAddress
	a.LimitBudget += b.LimitBudget
	a.StoreFailing += b.StoreFailing
}
