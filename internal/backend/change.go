package backend

import (
	"errors"
	"fmt"

	"postern/internal/auth"
)

// Change is the plan of an operation that changes an account of a domain with several backends. First
// they are asked, in order, whether they have the user:
//
//   - tryregister needs a sure "no such user" from each of them, and then goes to the first that
//     registers users at all. Otherwise two accounts of one name could exist, with two passwords.
//   - the others go to the first backend that has the user, and to no other.
//
// An answer that does not say whether the user is there ends the plan as a temporary failure. A
// single backend is asked to make the change at once: it knows its own users.
type Change struct {
	op      auth.Operation
	hops    int
	at      int  // the backend to be asked
	put     bool // it is asked to make the change, no longer whether it has the user
	taken   int  // answers so far
	decided bool
	result  Result
}

// Reasons for the results of a Change.
var (
	errRegistered = errors.New("another backend of the domain has this user")
	errNoUser     = errors.New("no backend of the domain has this user")
)

// NewChange returns the plan of an operation for a domain with so many backends, counting one that
// is asked under several names once for each.
func NewChange(op auth.Operation, hops int) *Change {
	return &Change{op: op, hops: hops, put: hops == 1}
}

// Next returns the index of the backend to be asked, and the operation to ask it for.
func (c *Change) Next() (hop int, op auth.Operation) {
	if c.put {
		return c.at, c.op
	}
	return c.at, auth.OpIsUser
}

// Taken is how many answers the plan has got. It names a question: the next one has another number.
func (c *Change) Taken() int { return c.taken }

// Add takes the answer to the question with a number, and reports whether the plan has come to its
// end. An answer that comes twice counts once.
func (c *Change) Add(question int, r Result) (decided bool) {
	if question != c.taken || c.decided {
		return c.decided
	}
	c.taken++
	switch {
	case c.put && c.op == auth.OpTryRegister && r.Class == Unsupported && c.at+1 < c.hops:
		c.at++
	case c.put:
		c.end(r)
	case r.Class == Accepted && c.op == auth.OpTryRegister:
		c.end(Result{Class: Refused, Known: true, Err: errRegistered})
	case r.Class == Accepted:
		c.put = true
	case r.Class != Refused || r.Suspect:
		c.end(unknown(r))
	case c.at+1 < c.hops:
		c.at++
	case c.op == auth.OpTryRegister:
		c.at, c.put = 0, true
	default:
		c.end(Result{Class: Refused, Absent: true, Err: errNoUser})
	}
	return c.decided
}

func (c *Change) end(r Result) { c.result, c.decided = r, true }

// unknown is the result if a backend does not say whether it has the user.
func unknown(r Result) Result {
	class := r.Class
	if class == Unsupported || class == Refused {
		class = Unsure
	}
	err := errors.New("it is not known whether a backend of the domain has this user")
	if r.Err != nil {
		err = fmt.Errorf("%w: %w", err, r.Err)
	}
	return Result{Class: class, Err: err}
}

// Put reports whether a backend has been asked to make the change: it may have been made.
func (c *Change) Put() bool { return c.put && c.decided }

// Result returns the outcome of a plan that has come to its end.
func (c *Change) Result() Result { return c.result }
