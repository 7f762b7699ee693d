package backend

import (
	"context"
	"time"

	"postern/internal/auth"
	"postern/internal/oidc"
	"postern/internal/scram"
)

// Class is what an answer of a backend means for the cache and the peer; see the package comment.
type Class uint8

const (
	// Outage: no connection, time-out, 502/503/504, maintenance, a malformed answer.
	// The cache may serve in grace.
	Outage Class = iota
	// Accepted: yes.
	Accepted
	// Refused: no.
	Refused
	// Throttled: the backend limits postern (429). The cache may serve in grace.
	Throttled
	// Misconfigured: wrong URL, wrong signature. The cache does not serve in grace, so that the
	// administrator notices.
	Misconfigured
	// Unsupported: the backend does not have the operation.
	Unsupported
	// Unsure: the backend works, but postern lacks the right to look, or a roster was asked for of
	// a user that the backend does not have. What the cache knows of the user may serve.
	Unsure
)

// Classes is the number of classes.
const Classes = int(Unsure) + 1

// String returns the class's word for logs and metrics.
func (c Class) String() string {
	return [Classes]string{"outage", "accepted", "refused", "throttled", "misconfigured", "unsupported", "unsure"}[c]
}

// Query is one question to a backend.
type Query struct {
	Op     auth.Operation
	User   string
	Domain string // the authentication domain, which may differ from the XMPP domain
	Secret auth.Secret
	// Proof, with OpAuth, stands in place of Secret: the client has not sent the password. Only a Keyed backend is
	// asked with it.
	Proof *scram.Proof
	// Logins are the rules that make login names of user and domain, in order; see ExpandLogin.
	// Empty means the user alone. Only backends with login names use it.
	Logins []string
	// JWT is what the secret says of itself, if it has been found to be a JWT.
	JWT *oidc.Unverified
	// Bearer: the secret came as a token, so that it may not be put to a server as a password.
	Bearer bool
	// Groups are those of which the domain wants to know, with an acceptance or an existing user, whether the account
	// is in them; see Result.Groups.
	Groups []string
	// ChangeAdmins allows OpSetPass for the backend's administrators.
	ChangeAdmins bool
	// Own: a person signs in, or has signed in, to a page of postern. With OpAuth, a secret that the backend has made for a
	// program does not count.
	Own bool
	// Old, with OpSetPass, is the account's password until now. Empty: the front does not know it.
	Old auth.Secret
}

// Result is a backend's answer.
type Result struct {
	Class Class
	// Known: the backend has this user, so that a chain of backends ends here even on a refusal.
	Known bool
	// Final: the secret is this backend's and none of another's, so that no other backend is asked, whatever the
	// class. With Absent, it may be good under another of the domain's names at this one.
	Final bool
	// Absent: the backend certainly does not have this user, so that a refusal says nothing about
	// the password.
	Absent bool
	// Suspect: the password was refused, perhaps rightly, before the backend stopped answering.
	// The class is neither Accepted nor Refused.
	Suspect bool
	// Attempts is how many logins the server refused for this question. 0 with the class Refused
	// means one.
	Attempts int
	// Account is the backend's own name of the user, with an acceptance or an existing user: the
	// spelling asked, or the mail address, may be another. Empty: the name asked.
	Account string
	// OneAccount, with the classes Outage and Throttled: the cause may lie in this account alone,
	// since the server was reached. Such failures open a breaker only if several accounts have them.
	OneAccount bool
	// Disabled: the account exists, but may not log in.
	Disabled bool
	// Exact: the backend has another account with a name that differs by letter case, so that the answer
	// holds for this spelling only.
	Exact bool
	// Expires, with an acceptance, says that the secret is a bearer token, and when it ends. It may not be
	// remembered for longer, nor on disk, and says nothing of the account's passwords.
	Expires time.Time
	// Forged, with a refusal, says that the secret is made up: it calls itself a token of the issuer, which has not
	// signed it.
	Forged bool
	// Groups are what the backend says of Query.Groups, as auth.GroupsOf has it. Empty: it does not say.
	Groups auth.Groups
	// Body is the document of a roster query, as received; after an accepted Proof, the server-final-message.
	Body []byte
	// Err is the reason for a class other than Accepted and Refused, for the log. Refused may have
	// one too. It holds no secret.
	Err error
}

// Backend asks one system. Ask is safe for concurrent use, returns when ctx ends, and does not
// panic on any answer.
type Backend interface {
	Ask(ctx context.Context, q Query) Result
	// Close ends idle connections. No Ask may run or follow.
	Close() error
}

// Domains is a Backend that knows the domains of its accounts.
type Domains interface {
	// HasDomain reports whether there is an account of a domain, in canonical form. With an error
	// that is not known.
	HasDomain(domain string) (bool, error)
}

// Keyed is a Backend that may have SCRAM keys of its users' passwords.
type Keyed interface {
	// Keyless returns how many users of a domain, in canonical form, have none. With an error that is not
	// known.
	Keyless(domain string) (int, error)
}

// Retrier is a Backend that leaves something undone for a while after it has failed.
type Retrier interface {
	// Retry has it tried again at the next question: an administrator has acted.
	Retry()
}

// Screener is a Backend to which most passwords mean nothing, and some cannot be guessed.
type Screener interface {
	// Screen looks at a question, without asking anything. It takes no time.
	Screen(q Query) Screening
}

// Screening is what a Screener says of a question.
type Screening struct {
	// Answer is the answer, if there is nothing to ask. No limit, slot or breaker has a say in it.
	Answer *Result
	// Own: the secret is a token that the backend's issuer is said to have made. No other backend is asked about it.
	Own bool
	// Token: the secret is a bearer token, which cannot be guessed: limits of the account do not go by it.
	Token bool
	// Offline: it is verified here, so that a refusal costs the server nothing.
	Offline bool
	// Local: most likely it is answered without the server, and an outage has no say then.
	Local bool
}

// Stamper is a Backend that answers from a file of this machine.
type Stamper interface {
	// Stamp describes the state of the file: it is another one after each change.
	Stamp() string
}

// Hashing runs CPU-heavy password work for a user on the machine-wide pool, which is fair between
// domains and users. It returns nil after run has
// returned, or an error if ctx ended, the pool is full or run panicked.
type Hashing func(ctx context.Context, id auth.Identity, run func()) error
