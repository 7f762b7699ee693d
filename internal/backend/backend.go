// Package backend asks the systems that know the passwords. Each kind stands in a
// file of its own and classifies every answer in one place.
package backend

import (
	"context"

	"postern/internal/auth"
)

// Class is what an answer of a backend means for the cache and the peer.
type Class uint8

const (
	// Outage: no connection, time-out, 502/503/504, maintenance, a garbled answer.
	// The cache may serve in grace.
	Outage Class = iota
	// Accepted: yes.
	Accepted
	// Refused: no.
	Refused
	// Throttled: the backend limits us (429). The cache may serve in grace.
	Throttled
	// Misconfigured: wrong URL, wrong signature. Nobody gets in by grace, for the
	// administrator must see it.
	Misconfigured
	// Unsupported: the backend does not have the operation.
	Unsupported
	// Unsure: the backend is well, but nobody lets postern look, or it does not have the user
	// whose roster is asked for, so it cannot tell. What the cache knows of the user may serve.
	Unsure
)

// Classes is how many classes there are.
const Classes = int(Unsure) + 1

// String returns the class's word for logs and metrics.
func (c Class) String() string {
	switch c {
	case Accepted:
		return "accepted"
	case Refused:
		return "refused"
	case Throttled:
		return "throttled"
	case Misconfigured:
		return "misconfigured"
	case Unsupported:
		return "unsupported"
	case Unsure:
		return "unsure"
	}
	return "outage"
}

// Query is one question to a backend.
type Query struct {
	Op     auth.Operation
	User   string
	Domain string // the authentication domain, which may differ from the XMPP domain
	Secret auth.Secret
	// Logins are the rules by which a login name is made of user and domain, in order; see
	// ExpandLogin. Empty: the user alone. Only backends with login names look at it.
	Logins []string
}

// Result is a backend's answer.
type Result struct {
	Class Class
	// Known says that the backend has this user, so that a chain of backends ends
	// here even on a refusal.
	Known bool
	// Absent says that a refusal is no judgement on the password: the backend surely does
	// not have this user.
	Absent bool
	// Suspect says that the password was refused, perhaps rightly, before the backend could not
	// tell any more. The class is neither Accepted nor Refused.
	Suspect bool
	// Attempts is how many logins the server refused for this one question; 0: one, if the
	// class is Refused.
	Attempts int
	// Body is the document of a roster query, as received.
	Body []byte
	// Err says why the class is neither Accepted nor Refused, for the log; with Refused or
	// Unsure it may say what an administrator would ask. It holds no secret.
	Err error
}

// Backend asks one system. Ask is safe for concurrent use, returns when ctx ends, and
// never panics on any answer.
type Backend interface {
	Ask(ctx context.Context, q Query) Result
	// Close ends idle connections. No Ask may run or follow.
	Close() error
}

// Hashing runs CPU-heavy password work on the machine-wide pool: run has returned, or an error
// is when ctx ends, the pool is full or run panics.
type Hashing func(ctx context.Context, run func()) error
