package wire

import (
	"bytes"
	"fmt"
	"strings"

	"postern/internal/auth"
)

// longestOperation is the length of "tryregister:", the longest operation with its colon.
const longestOperation = 12

// refuse sets req to the operation and the fault.
func refuse(req *auth.Request, op auth.Operation, fault string) Event {
	*req = auth.Request{Op: op, Fault: fault}
	return Refuse
}

// refuseNamed sets req to r without its secret, for the log. The names are cut to a length that can
// be logged; they may have any bytes.
func refuseNamed(req *auth.Request, r auth.Request, fault string) Event {
	r.User, r.Domain = clip(r.User), clip(r.Domain)
	if !plainText(r.Service) {
		r.Service = ""
	}
	r.Secret, r.Base, r.Fault = auth.Secret{}, "", fault
	*req = r
	return Refuse
}

// clip shortens a name that is longer than a valid one.
func clip(name string) string { return name[:min(len(name), auth.MaxName)] }

// Faults of requests, for the log.
const (
	faultLong    = "request over max_frame"
	faultForm    = "not a request of this protocol"
	faultAddress = "not a mail address"
	faultDomain  = "empty domain after '@'"
	faultService = "service name is over-long, not UTF-8 or has control characters"
	faultToken   = "not a bearer token"
)

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
		return refuse(req, op, faultForm) // also without a domain: the protocol has no default for it
	}
	both := string(rest[:len(user)+1+len(domain)]) // one allocation for user and domain
	return fill(req, auth.Request{Op: op, User: both[:len(user)], Domain: both[len(user)+1:]}, secret)
}

// fill sets req to r and the secret, if the names and the secret are valid. An empty domain
// stands for the listener's default: codecs of protocols without one refuse it first.
func fill(req *auth.Request, r auth.Request, secret []byte) Event {
	if err := named(&r); err != nil {
		if r.Op.NeedsSecret() {
			r.Domain = "" // a client with other ideas of the fields may have put the password there
		}
		return refuseNamed(req, r, auth.FaultOf(err))
	}
	if r.Op.NeedsSecret() {
		text := ownString(secret)
		if err := auth.CheckSecret(text); err != nil {
			if r.Service == text { // a client may have mixed up the fields
				r.Service = ""
			}
			return refuseNamed(req, r, auth.FaultOf(err))
		}
		r.Secret = auth.NewSecret(text)
	}
	*req = r
	return Ask
}

// named reports why r has not the valid names that its operation needs.
func named(r *auth.Request) error {
	if r.Op != auth.OpIsDomain {
		if err := auth.CheckUser(r.User); err != nil && !(r.User == "" && r.Bearer && r.Named) {
			return err
		}
		if r.Base != "" && auth.CheckUser(r.Base) != nil {
			return auth.CheckUser(r.Base)
		}
		if r.Domain == "" {
			return nil
		}
	} else if r.User != "" {
		return fmt.Errorf("%w: a domain has no user", auth.ErrMalformed)
	}
	return auth.CheckDomain(r.Domain)
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
