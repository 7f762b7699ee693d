// Package router admits calls, one actor for each domain that is in use. A router bounds what its
// domain may have under way, so that no domain starves another, and sends each call on its way: to a
// token worker if the password may be a token, else to the shard that owns the user. It keeps no
// record of users, so a reload, a change of the registered domains, and the start and end of a
// router hand nothing over.
package router

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/actors/call"
	"postern/actors/domain"
	"postern/actors/rosters"
	"postern/actors/supervise"
	"postern/internal/auth"
)

// maxUnderWay bounds the calls of one domain without an answer, those in the router's mailbox included. Most
// of them wait for a backend.
const maxUnderWay = 1 << 14

// Router is a domain block, or a registered domain, in use.
type Router struct {
	*domain.Shared
	table *Table
	ref   *supervise.Ref

	// calls counts the calls from the moment they are sent here until they are answered, and the
	// tasks that go on after that. When it ends, the actor is stopped.
	calls  *supervise.RefCount
	domain atomic.Pointer[domain.Domain] // in force; nil while a registered domain is read
	used   atomic.Int64                  // registered only: when a call came last, in Unix nanoseconds
	fault  atomic.Pointer[resolved]      // registered only: why there will be no value
	static bool                          // of the configuration file
	roster *rosters.Roster               // nil before the first value with shared rosters
}

// Domain returns the value in force; nil if it is not known yet.
func (r *Router) Domain() *domain.Domain { return r.domain.Load() }

// hasRoster reports whether the domain has shared rosters, and so r.roster. A router that has ended
// has no value.
func (r *Router) hasRoster() bool {
	d := r.domain.Load()
	return d != nil && d.Roster != nil
}

// admit sends a call to the router. It is false if the router is about to end: another one may
// have taken its place in the table.
func (r *Router) admit(run *supervise.Runner, c *call.Call) bool {
	if !r.calls.Acquire() {
		return false
	}
	if !r.static {
		r.touch(c.Received)
	}
	c.Admit(r.calls)
	if run == nil {
		r.ref.Send(c)
	} else {
		r.ref.SendBy(run, c)
	}
	return true
}

// touch notes that a call came. When two come at the same moment, either time will do.
func (r *Router) touch(at time.Time) {
	if n := at.UnixNano(); n > r.used.Load() {
		r.used.Store(n)
	}
}

// retire ends the admission of calls, and the router when the last one is done.
func (r *Router) retire() { r.calls.Retire() }

// replace puts a value in force. The one before ends when its last task is done.
func (r *Router) replace(d *domain.Domain) {
	if was := r.domain.Swap(d); was != nil {
		was.Retire()
	}
}

// resolved brings the outcome of reading a registered domain.
type resolved struct{ err error }

// router is the actor.
type router struct {
	*Router
	self    *supervise.Ref
	waiting []*call.Call // for the value of a registered domain
}

// Receive implements actor.Actor.
func (r *router) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *call.Call:
		r.onCall(m)
	case *resolved:
		r.onResolved(m)
	case *actor.Restarting:
		supervise.FailAll(r.waiting, supervise.Panicked)
	case *actor.Stopping:
		supervise.FailAll(r.waiting, supervise.Stopped)
	}
}

func (r *router) onCall(c *call.Call) {
	d := r.domain.Load()
	switch {
	case r.calls.Holders() > maxUnderWay:
		c.Unavailable(auth.SourceOverload)
		return
	case d == nil && r.fault.Load() != nil: // it was sent here before the others, and came after them
		r.unresolved(c, r.fault.Load().err)
		return
	case d == nil:
		c.Trace.Add("domain", "registered; it is read from the store")
		r.waiting = append(r.waiting, c)
		return
	}
	c.Domain = d
	if c.Req.Op == auth.OpAuth && !c.Req.Bearer && !c.Req.SignsIn() && c.Req.SASL == nil && d.HasTokens() {
		if d.MayBeToken(c.Req.Secret) {
			r.self.Forward(r.table.tokens(c.Hash), c)
			return
		}
		c.Trace.Add("token", "not a token")
	}
	r.self.Forward(r.table.shards.Ref(c.Hash), c)
}

// onResolved sends on the calls that have waited for the domain's value.
func (r *router) onResolved(m *resolved) {
	waiting := r.waiting
	r.waiting = nil
	for _, c := range waiting {
		if m.err == nil {
			r.onCall(c)
		} else {
			r.unresolved(c, m.err)
		}
	}
}

// unresolved ends the wait of a call for a value that will not come.
func (r *router) unresolved(c *call.Call, err error) {
	switch {
	case errors.Is(err, errGone):
		r.table.Reroute(c)
	case errors.Is(err, ErrStopping):
		c.Unavailable(auth.SourceStopping)
	default:
		c.Unavailable(auth.SourceConfig)
	}
}
