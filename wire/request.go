package wire

import (
	"bytes"
	"strings"

	"postern/internal/auth"
)

// longestOperation is the length of "tryregister:", the longest operation with its colon.
const longestOperation = 12

// refuse sets req to the operation alone, without a secret.
func refuse(req *auth.Request, op auth.Operation) Event {
	*req = auth.Request{Op: op}
	return Refuse
}

// leadingOperation reads the operation of a colon-separated request from its first bytes.
func leadingOperation(start []byte) auth.Operation {
	word, _, whole := bytes.Cut(start[:min(len(start), longestOperation)], []byte{':'})
	if !whole {
		return auth.OpNone
	}
	return auth.ParseOperation(word)
}

// decodeColon decodes op:user:domain[:secret], the request of the generic and the ejabberd
// protocol. The secret is the last field and keeps its colons. Names cannot hold a colon, so
// one too many is a malformed request. certauth is always refused: no peer sends it, and no
// backend can check a certificate. roster is true if the protocol has that operation.
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

// fill sets req to r and the secret, if the names and the secret are valid. An empty domain
// stands for the listener's default: codecs of protocols without one refuse it first.
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

// named reports whether r has valid names, and those that its operation needs.
func named(r *auth.Request) bool {
	if r.Op == auth.OpIsDomain {
		return r.User == "" && auth.CheckDomain(r.Domain) == nil
	}
	if r.Base != "" && auth.CheckUser(r.Base) != nil {
		return false
	}
	return auth.CheckUser(r.User) == nil && (r.Domain == "" || auth.CheckDomain(r.Domain) == nil)
}

// ownString copies b to an allocation of its own. Go packs strings of less than 16 bytes
// together, and a packed name that lives on in a cache key would keep the password alive.
func ownString(b []byte) string {
	const unpacked = 16
	var s strings.Builder
	s.Grow(max(len(b), unpacked))
	s.Write(b)
	return s.String()
}
