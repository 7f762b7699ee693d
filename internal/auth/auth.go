// Package auth is the vocabulary that every room of postern shares: what is
// asked (Request), what it is asked about (Identity), what comes back (Answer)
// and the secret that travels with it. It decides nothing and imports nothing of
// the project.
package auth

import "time"

// Operation is what a front end asks for.
type Operation uint8

// The operations of the front-end protocols (PROTOCOLS 3.1 to 3.4).
const (
	OpNone Operation = iota
	OpAuth
	OpIsUser
	OpSetPass
	OpTryRegister
	OpRemoveUser
	OpRemoveUser3
	OpCertAuth
	OpRoster
	OpIsDomain // is this domain served here? It has no user.
)

var operationNames = [...]string{
	OpNone: "none", OpAuth: "auth", OpIsUser: "isuser", OpSetPass: "setpass",
	OpTryRegister: "tryregister", OpRemoveUser: "removeuser",
	OpRemoveUser3: "removeuser3", OpCertAuth: "certauth", OpRoster: "roster",
	OpIsDomain: "isdomain",
}

// Operations is how many operations there are, OpNone among them.
const Operations = len(operationNames)

// String returns the operation's word as it stands on the wire.
func (o Operation) String() string {
	if int(o) < len(operationNames) {
		return operationNames[o]
	}
	return "unknown"
}

// ParseOperation returns the operation of a wire word and OpNone for any other
// text. The match is exact: the protocols know lower case only. isdomain is no word of any.
func ParseOperation(word []byte) Operation {
	for i := OpAuth; i <= OpRoster; i++ {
		if string(word) == operationNames[i] {
			return i
		}
	}
	return OpNone
}

// Changes reports whether the operation changes something at the backend, so
// that it must never be asked twice or be answered with a "no" that a peer takes
// for success.
func (o Operation) Changes() bool {
	switch o {
	case OpSetPass, OpTryRegister, OpRemoveUser, OpRemoveUser3:
		return true
	}
	return false
}

// NeedsSecret reports whether the operation carries a password or certificate.
func (o Operation) NeedsSecret() bool {
	switch o {
	case OpAuth, OpSetPass, OpTryRegister, OpRemoveUser3, OpCertAuth:
		return true
	}
	return false
}

// Verdict is the answer to a request. There are three, never two: a broker that
// cannot tell says so. The zero value is Unavailable, so that a forgotten verdict
// is never a yes and never a no.
type Verdict uint8

const (
	// Unavailable means "cannot tell now".
	Unavailable Verdict = iota
	// Allow means yes.
	Allow
	// Deny means no.
	Deny
	// Unsupported means that the backend does not have this operation.
	Unsupported
)

// Verdicts is how many verdicts there are.
const Verdicts = int(Unsupported) + 1

// String returns the verdict's word for logs.
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	case Unsupported:
		return "unsupported"
	}
	return "unavailable"
}

// ExitCode is the verdict as an exit status of the command line: 0 yes, 1 no,
// 75 (EX_TEMPFAIL of sysexits.h) cannot tell.
func (v Verdict) ExitCode() int {
	switch v {
	case Allow:
		return 0
	case Deny, Unsupported:
		return 1
	}
	return 75
}

// Source says who or what decided a verdict.
type Source uint8

// The sources of a verdict.
const (
	SourceNone          Source = iota
	SourceToken                // a valid time-limited token
	SourceHot                  // the cache, by keyed MAC
	SourceCache                // the cache, by password hash
	SourceCoalesced            // an identical request that was already under way
	SourceBackend              // a backend's own answer
	SourceGrace                // the cache, because the backend cannot answer
	SourceRefusedBefore        // the cache's memory of refused secrets
	SourceMalformed            // the request itself
	SourceUnknownDomain        // no such domain is configured
	SourceOverload             // a full queue
	SourceDeadline             // the front's deadline
	SourcePanic                // a fault in postern, caught
	SourceStopping             // postern is shutting down
	SourceConfig               // a broken configuration
	SourceUnsupported          // nobody here has the operation
	SourceDraining             // postern is shutting down and has not begun with the request
	SourceLimitUser            // too many refusals of the user's passwords
	SourceLimitAddress         // too many refusals of what came from the client's address
	SourceLimitBudget          // a backend has refused as much as it bears
)

var sourceNames = [...]string{
	"none", "token", "hot", "cache", "coalesced", "backend", "grace", "refused-before", "malformed",
	"unknown-domain", "overload", "deadline", "panic", "stopping", "config", "unsupported", "draining",
	"limit-user", "limit-address", "limit-budget",
}

// Sources is how many sources there are.
const Sources = len(sourceNames)

// String returns the source's word for logs and metrics.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return "unknown"
}

// Request is one question of a front end. User and Domain are as the peer sent
// them until Normalise has run.
type Request struct {
	Op      Operation
	User    string
	Domain  string // empty: the listener's default domain
	Base    string // OpIsUser: of an address with an extension the user without it, who will do as well
	Secret  Secret // password, new password or certificate; see Operation.NeedsSecret
	Service string // saslauthd's service name
	Client  string // address of the end user's client, where the front knows it
	Tag     uint64 // by which a codec whose answers may overtake each other knows the request

	// Patience is how long the asker waits, if the request itself says so; 0: as long as
	// its listener's deadline.
	Patience time.Duration
}

// Answer is what a request is answered with.
type Answer struct {
	Verdict Verdict
	Source  Source
	Body    []byte // roster: the backend's document, as received
}
