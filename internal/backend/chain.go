package backend

import (
	"errors"

	"postern/internal/auth"
)

// Chain folds the answers of backends that are asked in turn: the first that knows the
// user decides, and "cannot tell" of one never becomes the "no" of the chain.
type Chain struct {
	op      auth.Operation
	cause   Result // the weightiest answer so far
	any     bool
	refused bool // a backend that may know the user has refused the password
}

// errRefusedElsewhere is the cause when one backend refused and another cannot tell.
var errRefusedElsewhere = errors.New("one backend refused the password and another cannot tell")

// NewChain starts a chain for an operation.
func NewChain(op auth.Operation) Chain { return Chain{op: op} }

// Add takes the next backend's answer and reports whether the chain ends with it.
func (c *Chain) Add(r Result) (decided bool) {
	switch {
	case r.Class == Accepted,
		r.Class == Refused && r.Known,
		// Whether a change was made is not known: asking another backend could make it twice.
		c.op.Changes() && r.Class != Refused && r.Class != Unsupported:
		c.cause, c.any, c.refused = r, true, false
		return true
	}
	if c.op == auth.OpAuth && (r.Suspect || r.Class == Refused && !r.Absent) {
		c.refused = true
	}
	if !c.any || weight(r.Class) > weight(c.cause.Class) {
		c.cause, c.any = r, true
	}
	return false
}

// Result is the chain's answer so far; without any, an outage. A password that one backend
// refused while another cannot tell is nothing that a cache may serve in grace: it is
// answered like a misconfiguration.
func (c *Chain) Result() Result {
	if c.refused && (c.cause.Class == Outage || c.cause.Class == Throttled || c.cause.Class == Unsure) {
		return Result{Class: Misconfigured, Err: errRefusedElsewhere}
	}
	return c.cause
}

// Refused reports whether a backend that may know the user has refused the password, whatever
// the others said.
func (c *Chain) Refused() bool { return c.refused || c.cause.Class == Refused }

// Suspect reports whether a backend that may know the user has refused the password though the
// chain's answer is neither yes nor no.
func (c *Chain) Suspect() bool {
	return c.refused && c.cause.Class != Accepted && c.cause.Class != Refused
}

// weight orders the answers that do not decide: a backend that might have said yes outweighs
// those that said no.
func weight(c Class) int {
	switch c {
	case Outage:
		return 5
	case Throttled:
		return 4
	case Unsure:
		return 3
	case Misconfigured:
		return 2
	case Refused:
		return 1
	}
	return 0
}
