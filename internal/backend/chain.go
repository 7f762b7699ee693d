package backend

import (
	"errors"

	"postern/internal/auth"
)

// Chain combines the results of backends that are asked the same question in turn. The first that
// knows the user decides, and a temporary failure of one is never turned into the refusal of
// another. Operations that change something have a Change instead.
type Chain struct {
	op      auth.Operation
	result  Result // the most significant one so far
	any     bool
	refused bool // a backend that may know the user has refused the password
	exact   bool // see Result.Exact, of any
}

var errRefusedElsewhere = errors.New("one backend refused the password, and another cannot answer now")

// NewChain starts a chain for an operation.
func NewChain(op auth.Operation) Chain { return Chain{op: op} }

// Add takes the next backend's result and reports whether the chain ends with it.
func (c *Chain) Add(r Result) (decided bool) {
	c.exact = c.exact || r.Exact
	switch {
	case r.Class == Accepted, r.Class == Refused && r.Known, r.Final && !r.Absent:
		c.result, c.any, c.refused = r, true, false
		return true
	}
	if c.op == auth.OpAuth && (r.Suspect || r.Class == Refused && !r.Absent) {
		c.refused = true
	}
	// A backend that has not looked at the password is not the one to name.
	better := c.any && r.Class == Refused && c.result.Class == Refused && c.result.Absent && !r.Absent
	if !c.any || better || weights[r.Class] > weights[c.result.Class] {
		c.result, c.any = r, true
	}
	return false
}

// Result returns the combined result so far; that of an empty chain is an outage. A password that
// one backend refused while another did not answer is Misconfigured, because a cache must not
// serve it in grace.
func (c *Chain) Result() Result {
	if c.refused && (c.result.Class == Outage || c.result.Class == Throttled || c.result.Class == Unsure) {
		return Result{Class: Misconfigured, Err: errRefusedElsewhere}
	}
	c.result.Exact = c.exact
	return c.result
}

// Refused reports whether a backend that may know the user has refused the password, whatever
// the others answered.
func (c *Chain) Refused() bool { return c.refused || c.result.Class == Refused }

// Suspect reports whether a backend that may know the user has refused the password, though the
// combined result is neither yes nor no.
func (c *Chain) Suspect() bool {
	return c.refused && c.result.Class != Accepted && c.result.Class != Refused
}

// weights orders the classes that do not decide: a backend that might have accepted outweighs
// those that refused.
var weights = [Classes]int{Outage: 5, Throttled: 4, Unsure: 3, Misconfigured: 2, Refused: 1}
