package memory

import (
	"postern/actors/call"
	"postern/internal/auth"
	"postern/internal/unixtime"
)

// forProver sends a login back to where its secret was found right, with what is known of its account.
func (s *shard) forProver(c *call.Call, sp *space) {
	if user := sp.get(c.ID); user != nil && !c.Req.Fresh {
		if a, ok := user.Standing(c.Name, c.Service, &sp.domain.Rules, unixtime.At(s.env.Clock())); ok {
			c.Standing = &a
			s.self.Forward(c.Prover, c)
			return
		}
	}
	c.Trace.Add("cache", "what the backends say of the account is asked")
	s.askStanding(c, func(a auth.Answer) {
		c.Standing = &a
		c.Prover.Send(c)
	})
}

// askStanding asks whether the account of a login exists, as any isuser question is asked: identical ones
// wait for one answer, which is remembered, and memory bridges outages. back takes the answer, on any goroutine, and
// must not block.
func (s *shard) askStanding(c *call.Call, back func(auth.Answer)) {
	router := c.Admission()
	if router == nil || !router.Join() {
		return // c has been answered
	}
	about := &call.Call{
		Req: auth.Request{Op: auth.OpIsUser, User: c.Req.User, Domain: c.Req.Domain, Client: c.Req.Client, Fresh: c.Req.Fresh},
		ID:  c.ID, Name: c.Name, Hash: c.Hash, Received: c.Received, Deadline: c.Deadline, Trace: c.Trace, Front: c.Front,
		Service: c.Service, Proven: true, Domain: c.Domain, Asker: standingAsker(back),
	}
	about.Admit(router)
	begun := false
	defer func() {
		if !begun { // a panic: the login is failed by that
			about.Unavailable(auth.SourcePanic)
		}
	}()
	s.onCall(about)
	begun = true
}

// standingAsker brings what the backends say of an account back to the login that waits for it.
type standingAsker func(auth.Answer)

// Answered implements call.Asker.
func (back standingAsker) Answered(about *call.Call) {
	a, _ := about.Result()
	if a.Reason == "" {
		a.Reason = about.Why()
	}
	back(a)
}
