// Package call is a request on its way: where its answer goes, what is known of it so far, and the
// answer.
package call

import (
	"fmt"
	"sync/atomic"
	"time"

	"postern/actors/domain"
	"postern/actors/slots"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/scram"
)

// States of a call's answer.
const (
	open uint32 = iota
	answering
	answered
)

// Asker is notified, once, when a call has its answer. Answered is called on any goroutine and must
// not block.
type Asker interface {
	Answered(*Call)
}

// Call is a request under way. It owns its answer: the first caller of Answer or Unavailable
// decides, and later calls change nothing. It travels by pointer from actor to actor, without
// envelope or future.
type Call struct {
	Req      auth.Request
	ID       auth.Identity // folded: all spellings of an account meet in one record
	Name     string        // the user as asked; ID has its fold
	Via      string        // the account to which an alias leads; ID is then the account's
	Returns  bool          // the front returns the account's name to its peer
	Key      cache.Key     // of ID and secret; zero for operations other than auth until it is needed
	Hash     uint64        // of ID: chooses shard and token worker
	Received time.Time
	Deadline time.Time
	Trace    *Trace // nil but for `postern test`
	Front    string // name of the listener
	Service  string // for which a login is, as auth.FoldService has it; empty: the front did not say
	Counted  bool   // as in flight: a draining broker waits for it
	Proven   bool   // OpIsUser: for a login with a proven secret; the account's groups must be known
	Asker    Asker
	// Proof stands in place of a password, once the client's last message of SCRAM has been read; Signature is
	// the server's last one, if an app password was proved.
	Proof     *scram.Proof
	Signature string

	// Domain is the value of the domain by which the router has sent the call on.
	Domain *domain.Domain
	// Shard takes the call again if it waited for one that could not be answered. Set by the shard.
	Shard *supervise.Ref
	// Prover is an actor that has found the secret of a login right without a backend. It takes the call again with
	// Standing: what is known of the account, as an answer to OpIsUser.
	Prover   *supervise.Ref
	Standing *auth.Answer

	admission atomic.Pointer[supervise.RefCount] // of the router, held until the answer
	state     atomic.Uint32
	answer    auth.Answer
	given     *auth.Answer // before the account's groups were looked at; nil: the same
	turned    bool         // the answer was a yes for another account, which this front does not return
	took      time.Duration

	// Calls with the same question that wait for this one's answer: a stack that Answer
	// closes. next links a call into the stack of another.
	waiting atomic.Pointer[Call]
	next    *Call
}

// closedStack marks a stack of waiting calls that takes no more.
var closedStack = new(Call)

var _ supervise.Request = (*Call)(nil)

// Admit has the call release r, which the caller has acquired, when it is answered.
func (c *Call) Admit(r *supervise.RefCount) {
	c.admission.Store(r)
	if c.state.Load() != open { // its answer may have come before it had something to release
		c.Leave()
	}
}

// Admission returns what Admit was given; nil once the call is answered.
func (c *Call) Admission() *supervise.RefCount { return c.admission.Load() }

// Leave releases what Admit was given, unless that is done.
func (c *Call) Leave() {
	if r := c.admission.Swap(nil); r != nil {
		r.Release()
	}
}

// Asked is the identity in the spelling asked.
func (c *Call) Asked() auth.Identity { return auth.Identity{User: c.Name, Domain: c.ID.Domain} }

// As is the name of the user in records: that of the account, if an alias leads there.
func (c *Call) As() string {
	if c.Via != "" {
		return c.Via
	}
	return c.Name
}

// Leads reports whether a login was let in as an account of another name than the one asked.
func (c *Call) Leads(account string) bool {
	return c.Req.Op == auth.OpAuth && account != "" && account != c.Name && auth.FoldUser(account) != auth.FoldUser(c.Name)
}

// Answer ends the call and reports whether it was the first to do so. It never blocks and
// may be called from any goroutine.
func (c *Call) Answer(a auth.Answer) bool {
	if !c.state.CompareAndSwap(open, answering) {
		return false
	}
	if a.Verdict == auth.Allow && !c.Returns && c.Leads(a.Account) {
		// The peer would take the user for the one asked: users set their mail addresses themselves.
		a = auth.Answer{Verdict: auth.Deny, Source: a.Source, Reason: fmt.Sprintf("the backend names another account: %q", a.Account)}
		c.Trace.Add("answer", a.Reason)
		c.turned = true
	}
	if b := c.allowed(a); b.Verdict != a.Verdict || b.Barred != a.Barred {
		given := a
		a, c.given = b, &given
	}
	c.answer = a
	c.took = time.Since(c.Received)
	c.state.Store(answered)
	c.Leave()
	waiter := c.waiting.Swap(closedStack)
	if c.Asker != nil {
		c.Asker.Answered(c)
	}
	if a.Verdict == auth.Allow && c.Req.Op == auth.OpAuth && c.Domain != nil {
		c.Domain.NoteLogin(c.ID)
	}
	for waiter != nil {
		w := waiter
		waiter, w.next = w.next, nil
		c.passOn(w)
	}
	return true
}

// Vouched is the answer to a login that its Prover has found right: what the backends say of the account decides, as
// far as the domain has conditions on it.
func (c *Call) Vouched(source auth.Source) auth.Answer {
	s := c.Standing
	if s == nil {
		return c.allowed(auth.Answer{Verdict: auth.Allow, Source: source})
	}
	switch {
	case s.Verdict == auth.Deny:
		return auth.Answer{Verdict: auth.Deny, Source: source, Reason: "the account does not exist at its backend, or not any more"}
	case s.Verdict != auth.Allow:
		return auth.Answer{Source: s.Source, Reason: "whether the account is in a group is not known: " + s.Reason}
	case s.Disabled && s.Bridged:
		return auth.Answer{Source: auth.SourceGrace, Reason: "the account was disabled, and its backend gives no answer now"}
	case s.Disabled:
		return auth.Answer{Verdict: auth.Deny, Source: source, Reason: "the account is disabled at its backend"}
	}
	a := auth.Answer{Verdict: auth.Allow, Source: source}
	if !c.Leads(s.Account) { // else they are another account's
		a.Groups = s.Groups
	}
	return c.allowed(a)
}

// allowed makes of an answer what the domain's conditions on the account's groups make of it. Every way to let an
// account in ends here, so that none can forget them. Only a yes comes from one that has the call after the router has
// set its domain: others may end it at any time.
func (c *Call) allowed(a auth.Answer) auth.Answer {
	if a.Verdict != auth.Allow || c.Domain == nil || c.Domain.Rules.Allow == nil {
		return a
	}
	switch b := c.Domain.Rules.Allow.Decide(a, c.Service); {
	case c.Req.Op.LetsIn():
		if b.Verdict != auth.Allow {
			c.Trace.Add("groups", b.Reason)
		}
		return b
	case c.Req.Op == auth.OpIsUser && c.Req.Info: // the peer has other ways to let the account in
		a.Barred = b.Verdict == auth.Deny
		if b.Verdict == auth.Unavailable {
			return b
		}
	}
	return a
}

// passOn gives this call's answer to one that waited for it. If this call ran out of time,
// one that has time left for a backend goes back to the shard, as does one from another address if
// this one's address is limited, one with another spelling of the user, and one with a front that returns
// the account for which this one's does not. The shard handles it as a new call, so that limits hold for
// it, too.
func (c *Call) passOn(w *Call) {
	if c.answer.Source == auth.SourceDeadline && w.Deadline.After(c.Deadline) &&
		time.Until(w.Deadline) > 2*GraceTime(w.Deadline.Sub(w.Received)) ||
		c.answer.Source == auth.SourceLimitAddress && w.Req.Client != c.Req.Client || w.Name != c.Name || c.turned && w.Returns {
		w.Shard.Send(w)
		return
	}
	a := c.answer
	if c.given != nil { // the other may be for another service
		a = *c.given
	}
	switch a.Source {
	case auth.SourceDeadline, auth.SourcePanic, auth.SourceOverload, auth.SourceStopping,
		auth.SourceLimitUser, auth.SourceLimitAddress, auth.SourceLimitBudget:
	default:
		a.Source = auth.SourceCoalesced
	}
	w.Trace.Add("coalesced", "an identical request was answered: "+a.Verdict.String())
	w.Answer(a)
}

// GraceTime is the part of a request's time that is kept from the backend, so that the
// cache can still serve in its place.
func GraceTime(timeout time.Duration) time.Duration { return min(timeout/4, time.Second) }

// Unavailable answers "temporary failure", and why.
func (c *Call) Unavailable(why auth.Source) { c.Answer(auth.Answer{Source: why}) }

// Fail implements supervise.Request.
func (c *Call) Fail(why supervise.Reason) { c.Unavailable(slots.SourceOf(why)) }

// Done reports whether the call has been answered.
func (c *Call) Done() bool { return c.state.Load() == answered }

// Result returns the answer of a call that is Done, and the time it took.
func (c *Call) Result() (auth.Answer, time.Duration) { return c.answer, c.took }

// Reply returns the answer of a call that is Done as it goes to the peer: a yes names the account,
// which is the name asked if there is no other, in the spelling asked where letter case may count.
func (c *Call) Reply() auth.Answer {
	a := c.answer
	if a.Account == "" && a.Verdict == auth.Allow {
		if a.Account = c.ID.User; c.Domain != nil && !c.Domain.Folds && c.Via == "" {
			a.Account = c.Name
		}
	}
	a.Domain = c.ID.Domain
	return a
}

// Join makes w wait for c's answer. It is false once c has one.
func (c *Call) Join(w *Call) bool {
	for {
		head := c.waiting.Load()
		if head == closedStack {
			return false
		}
		w.next = head
		if c.waiting.CompareAndSwap(head, w) {
			return true
		}
	}
}
