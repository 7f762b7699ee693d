// Package auth has the types that all packages of postern share: the question of a front end
// (Request), the account it is about (Identity), its password (Secret) and the reply (Answer). It
// decides nothing and imports nothing of the project.
//
// An Answer has three verdicts, never two: yes, no and a temporary failure. A mail or XMPP server
// treats "no" as final: it bounces mail, or makes a client forget its password. So an outage, a
// timeout or a full queue is never turned into a "no" where the protocol can express a temporary
// failure. A fourth verdict is for operations that the backend does not have.
//
// An Identity has its domain in canonical form, so that all spellings of a domain are one. Its
// user is kept as given: only the XMPP or mail server, and the backend, define which spellings
// are the same user.
//
// A Secret prints nothing under any verb, in logs and in encoded form, so a password cannot leak
// by way of a struct that contains one.
package auth

import "time"

// Operation is what a front end asks for.
type Operation uint8

// The operations of the front-end protocols.
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
	OpWatch    // report changes of the domain's accounts on this connection. It has no user.
	OpScram    // begin a login by SCRAM: see SASL
)

var operationNames = [...]string{
	OpNone: "none", OpAuth: "auth", OpIsUser: "isuser", OpSetPass: "setpass",
	OpTryRegister: "tryregister", OpRemoveUser: "removeuser",
	OpRemoveUser3: "removeuser3", OpCertAuth: "certauth", OpRoster: "roster",
	OpIsDomain: "isdomain", OpWatch: "watch", OpScram: "scram",
}

// Operations is the number of operations, including OpNone.
const Operations = len(operationNames)

// String returns the operation's word as it stands on the wire.
func (o Operation) String() string {
	if int(o) < len(operationNames) {
		return operationNames[o]
	}
	return "unknown"
}

// ParseOperation returns the operation of a wire word and OpNone for any other
// text. The match is exact, since the protocols have lower case only; isdomain, watch and scram are none.
func ParseOperation(word []byte) Operation {
	for i := OpAuth; i <= OpRoster; i++ {
		if string(word) == operationNames[i] {
			return i
		}
	}
	return OpNone
}

// LetsIn reports whether a yes lets the account in, so that the domain's conditions on its groups hold.
func (o Operation) LetsIn() bool { return o == OpAuth || o == OpCertAuth }

// Changes reports whether the operation changes something at the backend. It must then not be
// repeated, nor answered with a "no" that a peer takes for success.
func (o Operation) Changes() bool {
	switch o {
	case OpSetPass, OpTryRegister, OpRemoveUser, OpRemoveUser3:
		return true
	}
	return false
}

// Replaces reports whether the operation, once it has succeeded, leaves nothing of an account that had the name
// before.
func (o Operation) Replaces() bool {
	return o == OpTryRegister || o == OpRemoveUser || o == OpRemoveUser3
}

// NeedsSecret reports whether the operation carries a password or certificate.
func (o Operation) NeedsSecret() bool {
	switch o {
	case OpAuth, OpSetPass, OpTryRegister, OpRemoveUser3, OpCertAuth, OpScram:
		return true
	}
	return false
}

// Verdict is the result of a request. The zero value is Unavailable, so that a forgotten verdict
// is never a yes and never a no.
type Verdict uint8

const (
	// Unavailable is a temporary failure: the result is not known right now.
	Unavailable Verdict = iota
	// Allow means yes.
	Allow
	// Deny means no.
	Deny
	// Unsupported means that the backend does not have this operation.
	Unsupported
)

// Verdicts is the number of verdicts.
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

// ExitCode is the verdict as an exit status of the command line: 0 for yes, 1 for no and 75
// (EX_TEMPFAIL of sysexits.h) for a temporary failure.
func (v Verdict) ExitCode() int {
	switch v {
	case Allow:
		return 0
	case Deny, Unsupported:
		return 1
	}
	return 75
}

// Source is the origin of a verdict.
type Source uint8

// The sources of a verdict.
const (
	SourceNone          Source = iota
	SourceToken                // a valid time-limited token
	SourceHot                  // the cache, by keyed MAC
	SourceCache                // the cache, by password hash
	SourceCoalesced            // an identical request under way
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
	SourceUnsupported          // no backend has the operation
	SourceDraining             // postern is shutting down and has not begun with the request
	SourceLimitUser            // too many refusals of the user's passwords
	SourceLimitAddress         // too many refusals of what came from the client's address
	SourceLimitBudget          // a backend's limit of refusals is used up
	SourceForbidden            // the listener, or the account, is closed to changes
	SourceAppPassword          // an app password, or the rule that one is required
	SourceScram                // an exchange of SCRAM that cannot be finished
	SourceGroups               // the groups of the account: they do not allow the login, or are not known
	SourceStore                // the shared store cannot say what must be known
)

var sourceNames = [...]string{
	"none", "token", "hot", "cache", "coalesced", "backend", "grace", "refused-before", "malformed",
	"unknown-domain", "overload", "deadline", "panic", "stopping", "config", "unsupported", "draining",
	"limit-user", "limit-address", "limit-budget", "forbidden", "app-password", "scram", "groups", "store",
}

// Sources is the number of sources.
const Sources = len(sourceNames)

// String returns the source's word for logs and metrics.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return "unknown"
}

// Request is one question of a front end. User and Domain are as the peer sent them; see Identity.
type Request struct {
	Op      Operation
	User    string
	Domain  string // empty: the listener's default domain
	Base    string // OpIsUser: the user without the address extension, which is enough too
	Secret  Secret // password, new password or certificate; see Operation.NeedsSecret
	Service string // saslauthd's service name
	Client  string // address of the end user's client, where the front knows it
	Tag     uint64 // the codec's number of the request, if answers may overtake each other
	Named   bool   // the peer takes the account's name from the answer. With Bearer it may leave out User: the token says who it is
	Bearer  bool   // OpAuth: the secret came as a bearer token, so that none may take it for a password
	Fault   string // why the codec refuses the request; empty: it does not. Never sent to the peer
	Info    bool   // OpIsUser: the answer is to say what is known of the account besides
	SASL    *SASL  // the login is by messages of a mechanism; nil: by the password itself

	// Since is the time from which on OpWatch reports changes; zero: from now on.
	Since time.Time

	// Fresh has the backend asked whatever is remembered, and nothing remembered of its answer.
	Fresh bool
	// Own, of OpAuth with Fresh, is a sign-in of a person to a page of postern, and of OpSetPass what that person does
	// there. Nil: it is neither.
	Own *Own
	// Patience is how long the peer waits, if the request itself says so. 0 means the listener's
	// deadline.
	Patience time.Duration
}

// Own is a login by the account's own password or nothing, so that no token and no app password counts, nor the rule
// that one is required. The limits on guessing hold.
type Own struct {
	Groups []string // of which the answer is to say whether the account is in them
	Old    Secret   // with OpSetPass: the account's password until now, by which a backend may act as the account
}

// SignsIn reports whether a person signs in to a page.
func (r *Request) SignsIn() bool { return r.Op == OpAuth && r.Own != nil }

// SASL is a login of which postern verifies the messages: SCRAM. Request.Secret has the client's message in place of a
// password. With OpScram that is its first, and the answer is Allow with the server's first message, a space, and a
// State. With OpAuth it is its last, and the body of an Allow is the server's last.
type SASL struct {
	Mechanism string
	// Bindings, of OpScram, are the types of channel binding that the server offers, separated by commas; empty:
	// it offers no mechanism that ends in -PLUS.
	Bindings string
	// Binding, of OpAuth, is the data of the channel binding that the client has chosen; empty: none.
	Binding string
	// State, of OpAuth, is that of the answer to OpScram.
	State string
}

// WatchFlags is the one byte in the body of a watch's answer.
type WatchFlags byte

// WatchTokens: the domain has one-time tokens, for which there is a SASL mechanism of its own.
const WatchTokens WatchFlags = 1

// WatchScram: users can log in by SCRAM-SHA-1 and SCRAM-SHA-256.
const WatchScram WatchFlags = 2

// WatchBearer: users can log in with bearer tokens, by OAUTHBEARER.
const WatchBearer WatchFlags = 4

// Answer is the reply to a request.
type Answer struct {
	Verdict Verdict
	Source  Source
	// Body, of a roster: the backend's document, as received; of a watch: the WatchFlags; of a bearer token that is
	// refused: what the client is told of it. See also SASL.
	Body []byte

	// Account is the name that the backend gives the user, which may be known to the peer by another
	// spelling or by a mail address. Empty: the name asked.
	Account string
	// Domain is the account's, in canonical form. Empty: that of the request.
	Domain string
	// Disabled: the account may not log in, as far as OpIsUser has found out. Changed, with Request.Info: what
	// a server has issued for the account before this time is not valid any more; zero if there was no change.
	Disabled bool
	Changed  time.Time
	// Unasked, of OpIsUser with a temporary failure: time will not change it, since no backend of the domain
	// can be asked whether accounts exist.
	Unasked bool
	// Bridged, of OpIsUser: it is what was known before, since the backend gives no answer.
	Bridged bool
	// Groups are what is known of the account's, as far as the domain has conditions on them. One protocol, HTTP
	// Basic, tells its peer.
	// Barred, with Request.Info: they do not let the account log in.
	Groups Groups
	Barred bool
	// Reason says why, for the log and for an administrator; it is never sent to the peer.
	Reason string
}
