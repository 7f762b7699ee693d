package actors

import (
	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
	"postern/internal/cache"
)

// router owns the requests of a domain that memory could not answer: it joins identical ones,
// so that a thousand phones that come back at once put one question, and it counts those that
// were refused. It waits for none.
type router struct {
	*domain
	flights map[cache.Key]*Call
	limiter *limiter
	prune   int // size at which flights is looked through for calls that have ended
}

// pruneAt is the smallest size at which a router looks for ended flights.
const pruneAt = 256

func newRouter(d *domain) *router {
	return &router{domain: d, flights: make(map[cache.Key]*Call), limiter: newLimiter(d), prune: pruneAt}
}

// Receive implements actor.Actor.
func (r *router) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *Call:
		r.onCall(m)
	case *landed:
		if r.flights[m.key] == m.call {
			delete(r.flights, m.key)
		}
		r.limiter.landed(m.call, m.refused)
	case *changed:
		clear(r.flights) // whoever asks from now on is not to have an answer from before
		if m.done {
			r.limiter.users.Forget(m.user)
		}
	case *limitOp[*limiter]:
		m.run(r.limiter)
	}
}

// onCall lets a call wait for one with the same question, or makes it the one that others
// wait for. Changes are never joined: each is carried out.
func (r *router) onCall(c *Call) {
	if c.stage != stageMissed {
		c.Fail(auth.SourcePanic)
		return
	}
	c.stage = stageSlow
	if c.Req.Op.Changes() {
		r.shardOf(c.hash).send(c)
		return
	}
	if leader := r.flights[c.Key]; leader != nil && leader.join(c) {
		c.Trace.Add("router", "waiting for an identical request")
		return
	}
	if len(r.flights) >= r.prune {
		r.pruneFlights()
	}
	r.flights[c.Key] = c
	r.limiter.look(c)
	r.shardOf(c.hash).send(c)
}

// pruneFlights forgets calls that have ended without a word, as after a panic elsewhere.
func (r *router) pruneFlights() {
	for key, c := range r.flights {
		if c.Done() {
			delete(r.flights, key)
		}
	}
	r.prune = max(pruneAt, 2*len(r.flights))
}
