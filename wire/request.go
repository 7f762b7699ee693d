package wire

import (
	"bytes"
	"strings"

	"postern/internal/auth"
)

// longestOperation is the length of "tryregister:", the longest operation word with
// its colon.
const longestOperation = 12

// refuse leaves the operation and nothing else in req, above all no secret.
func refuse(req *auth.Request, op auth.Operation) Event {
	*req = auth.Request{Op: op}
	return Refuse
}

// leadingOperation reads the operation word of a colon-separated request of which
// perhaps only the beginning is at hand.
func leadingOperation(start []byte) auth.Operation {
	start = start[:min(len(start), longestOperation)]
	colon := bytes.IndexByte(start, ':')
	if colon < 0 {
		return auth.OpNone
	}
	return auth.ParseOperation(start[:colon])
}

// decodeColon decodes op:user:domain[:secret], the request that the generic and the
// ejabberd protocol share. The secret is the last field and keeps its colons. Names
// cannot hold a colon, so one too many is a malformed request. certauth is always
// refused: no caller is known to send it (PROTOCOLS 3.1) and no backend knows what
// to do with a certificate. roster says whether the protocol has that operation.
func decodeColon(frame []byte, roster bool, req *auth.Request) Event {
	colon := []byte{':'}
	word, rest, _ := bytes.Cut(frame, colon)
	if string(word) == "quit" || string(word) == "exit" {
		return Quit
	}
	op := auth.ParseOperation(word)
	if op == auth.OpRoster && !roster {
		op = auth.OpNone
	}
	user, domain, whole := bytes.Cut(rest, colon)
	domain, secret, hasSecret := bytes.Cut(domain, colon)
	if op == auth.OpNone || op == auth.OpCertAuth || !whole || op.NeedsSecret() != hasSecret || len(domain) == 0 {
		return refuse(req, op) // also without a domain: the protocol has no default for it
	}
	both := string(rest[:len(user)+1+len(domain)]) // one allocation for user and domain
	return fill(req, auth.Request{Op: op, User: both[:len(user)], Domain: both[len(user)+1:]}, secret)
}

// fill checks the names of r and the secret, and makes r the request that is asked. An
// empty domain stands for the listener's default: a caller whose protocol does not
// have that refuses it first.
func fill(req *auth.Request, r auth.Request, secret []byte) Event {
	if !named(&r) {
		return refuse(req, r.Op)
	}
	if r.Op.NeedsSecret() {
		text := ownString(secret)
		if auth.CheckSecret(text) != nil {
			return refuse(req, r.Op)
		}
		r.Secret = auth.NewSecret(text)
	}
	*req = r
	return Ask
}

// named reports whether the names of r are those that its operation is about.
func named(r *auth.Request) bool {
	if r.Op == auth.OpIsDomain {
		return r.User == "" && auth.CheckDomain(r.Domain) == nil
	}
	if r.Base != "" && auth.CheckUser(r.Base) != nil {
		return false
	}
	return auth.CheckUser(r.User) == nil && (r.Domain == "" || auth.CheckDomain(r.Domain) == nil)
}

// ownString copies b to a block of memory of its own. Go packs strings of less than
// 16 bytes together, and one of them that lives on, such as a name in a cache key,
// would keep a packed password alive.
func ownString(b []byte) string {
	const unpacked = 16
	var s strings.Builder
	s.Grow(max(len(b), unpacked))
	s.Write(b)
	return s.String()
}
