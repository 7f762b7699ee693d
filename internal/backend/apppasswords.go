package backend

import (
	"context"
	"errors"

	"postern/internal/auth"
)

// errNoAppPassword is the reason of the refusal of any other password.
var errNoAppPassword = errors.New("it is no app password, and the domain has no other")

// appPasswords is the backend of a domain that has app passwords alone.
type appPasswords struct{}

// NewAppPasswords returns the backend that is asked, in a domain with app passwords and no other backend,
// about what is none. App passwords themselves never reach a backend.
func NewAppPasswords() Backend { return appPasswords{} }

// Ask implements Backend.
func (appPasswords) Ask(_ context.Context, q Query) Result {
	switch q.Op {
	case auth.OpAuth:
		return Result{Class: Refused, Err: errNoAppPassword}
	case auth.OpIsUser:
		return Result{Class: Unsure}
	}
	return Result{Class: Unsupported}
}

// Close implements Backend.
func (appPasswords) Close() error { return nil }
