package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"time"

	"postern/internal/auth"
)

// ejabberdPrefix is the size of the length prefix.
const ejabberdPrefix = 2

// ejabberd is the protocol of ejabberd's extauth.erl: frames of a 2-byte big-endian length and
// op:user:domain[:secret], answered with frames of a 2-byte value.
type ejabberd struct {
	persistent
	max    int
	binary bool           // never answer 2
	skip   int            // bytes left of an oversize frame
	op     auth.Operation // of the oversize frame
}

// Decode implements Codec. A frame over the limit is dropped as it arrives and refused at its
// end: its length is known, so the next frame is found.
func (e *ejabberd) Decode(buf []byte, req *auth.Request) (int, Event) {
	if e.skip > 0 {
		return e.drop(buf, req)
	}
	if len(buf) < ejabberdPrefix {
		return 0, More
	}
	size := int(binary.BigEndian.Uint16(buf))
	switch {
	case size == 0: // the end of the stream, as in xcauth; ejabberd never sends it
		return ejabberdPrefix, Quit
	case size > e.max:
		// The answer depends on the operation, which is never longer than e.max.
		if len(buf) < ejabberdPrefix+longestOperation {
			return 0, More
		}
		e.skip, e.op = ejabberdPrefix+size, leadingOperation(buf[ejabberdPrefix:])
		return e.drop(buf, req)
	case len(buf) < ejabberdPrefix+size:
		return 0, More
	}
	n := ejabberdPrefix + size
	frame := buf[ejabberdPrefix:n]
	if ev, ok := decodeModule(frame, req); ok {
		return n, ev
	}
	return n, decodeColon(frame, false, req)
}

// decodeModule decodes the operations that mod_auth_postern has besides ejabberd's. It is false for
// all others.
func decodeModule(frame []byte, req *auth.Request) (ev Event, ok bool) {
	word, rest, _ := bytes.Cut(frame, []byte{':'})
	user, domain, whole := bytes.Cut(rest, []byte{':'})
	op := auth.OpNone
	switch string(word) {
	case "watch":
		since, err := strconv.ParseInt(string(user), 10, 64)
		if !whole || err != nil || since < 0 || auth.CheckDomain(string(domain)) != nil {
			return refuse(req, auth.OpWatch, faultForm), true
		}
		*req = auth.Request{Op: auth.OpWatch, Domain: string(domain)}
		if since > 0 {
			req.Since = time.UnixMilli(since)
		}
		return Ask, true
	case "account":
		op = auth.OpIsUser
	case "login", "proof", "bearer":
		op = auth.OpAuth
	case "scram":
		op = auth.OpScram
	default:
		return More, false
	}
	domain, text, has := bytes.Cut(domain, []byte{':'})
	if !whole || len(domain) == 0 || has != op.NeedsSecret() {
		return refuse(req, op, faultForm), true
	}
	r := auth.Request{Op: op, User: string(user), Domain: string(domain), Info: op == auth.OpIsUser}
	if has {
		service, from, _ := bytes.Cut(text, []byte{' '})
		client, secret, hasSecret := bytes.Cut(from, []byte{' '})
		if !hasSecret || !plainText(string(service)) || !plainText(string(client)) {
			return refuse(req, op, faultForm), true
		}
		r.Service, r.Client, text = string(service), clientAddress(string(client)), secret
	}
	switch string(word) {
	case "bearer":
		if r.Bearer, r.Named = true, r.User == ""; !isToken(text) {
			return refuseNamed(req, r, faultToken), true
		}
	case "scram", "proof":
		var ok bool
		if r.SASL, text, ok = decodeSASL(op, text); !ok {
			return refuse(req, op, faultForm), true
		}
	}
	return fill(req, r, text), true
}

// decodeSASL decodes what stands before a client's message: MECHANISM BINDINGS of the first message,
// MECHANISM BINDING STATE of the last. Each is followed by a space; "-" stands for none.
func decodeSASL(op auth.Operation, text []byte) (s *auth.SASL, message []byte, ok bool) {
	mechanism, text, _ := bytes.Cut(text, []byte{' '})
	binding, message, ok := bytes.Cut(text, []byte{' '})
	s = &auth.SASL{Mechanism: string(mechanism)}
	if string(binding) == "-" {
		binding = nil
	}
	if op == auth.OpScram {
		s.Bindings = string(binding)
		return s, message, ok && plainText(s.Mechanism) && plainText(s.Bindings)
	}
	data, err := base64.StdEncoding.DecodeString(string(binding))
	state, message, ok := bytes.Cut(message, []byte{' '})
	s.Binding, s.State = string(data), string(state)
	return s, message, ok && err == nil && plainText(s.Mechanism)
}

// drop consumes an oversize frame as far as it has arrived.
func (e *ejabberd) drop(buf []byte, req *auth.Request) (int, Event) {
	n := min(e.skip, len(buf))
	e.skip -= n
	if e.skip > 0 {
		return n, More
	}
	return n, refuse(req, e.op, faultLong)
}

// AppendAnswer implements Codec. ejabberd logs any value but 1 and 0 as an error of that one
// call, caches nothing and keeps the program running. So the answer is 2 where 0 would be wrong:
// for a temporary failure, and for a setpass that failed, since ejabberd takes 0 to setpass for
// success.
func (e *ejabberd) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	switch {
	case req.Op == auth.OpWatch:
		if a.Verdict == auth.Allow && len(a.Body) == 1 {
			return append(dst, 0, 2, a.Body[0], 1)
		}
		return append(dst, 0, 2, 0, 0)
	case req.Info:
		return appendAccount(dst, a)
	case req.Bearer:
		return appendBearer(dst, req, a)
	case req.SASL != nil:
		return appendSASL(dst, a)
	}
	value := byte(2)
	switch {
	case a.Verdict == auth.Allow:
		value = 1
	case e.binary, a.Verdict == auth.Deny && req.Op != auth.OpSetPass, a.Verdict == auth.Unsupported && !req.Op.Changes():
		value = 0
	}
	return append(dst, 0, 2, 0, value)
}

// appendSASL appends the answer to a message of a mechanism: a value, and the server's message after 1. 3 says
// that the domain does not offer the mechanism.
func appendSASL(dst []byte, a auth.Answer) []byte {
	value, body := byte(2), []byte(nil)
	switch {
	case a.Verdict == auth.Allow && len(a.Body) <= maxSASL:
		value, body = 1, a.Body
	case a.Verdict == auth.Deny:
		value = 0
	case a.Verdict == auth.Unsupported:
		value = 3
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(2+len(body)))
	return append(append(dst, 0, value), body...)
}

// appendBearer appends the answer to a bearer token: a value, and after 1 the user that the token names, if the peer
// did not; after 0 what the client is told. 3 says that it is not taken here.
func appendBearer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	switch {
	case a.Verdict == auth.Allow && req.Named:
		a.Body = []byte(req.User)
	case a.Verdict != auth.Deny || len(a.Body) > maxSASL:
		a.Body = nil
	}
	value := byte(2)
	switch a.Verdict {
	case auth.Allow:
		value = 1
	case auth.Deny:
		value = 0
	case auth.Unsupported:
		value = 3
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(2+len(a.Body)))
	return append(append(dst, 0, value), a.Body...)
}

// maxSASL is the longest message that the server sends, in bytes, with the state after the first one.
const maxSASL = 16384

// appendAccount appends the answer to the operation account.
func appendAccount(dst []byte, a auth.Answer) []byte {
	value := byte(2)
	switch {
	case a.Verdict == auth.Deny:
		value = 0
	case a.Verdict == auth.Allow && a.Disabled:
		value = 3
	case a.Verdict == auth.Allow:
		value = 1
	}
	return appendTime(append(dst, 0, 10, 0, value), a.Changed)
}

// appendTime appends Unix milliseconds, and 0 for the zero time.
func appendTime(dst []byte, at time.Time) []byte {
	ms := int64(0)
	if !at.IsZero() {
		ms = max(at.UnixMilli(), 0)
	}
	return binary.BigEndian.AppendUint64(dst, uint64(ms))
}

// AppendChange implements Reporter.
func (e *ejabberd) AppendChange(dst []byte, kind byte, at time.Time, user string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(10+len(user)))
	return append(appendTime(append(dst, 'P', kind), at), user...)
}
