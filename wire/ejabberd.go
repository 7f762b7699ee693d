package wire

import (
	"encoding/binary"

	"postern/internal/auth"
)

// ejabberdPrefix is the size of the length prefix.
const ejabberdPrefix = 2

// ejabberd is the protocol of ejabberd's extauth.erl (PROTOCOLS 3.1): frames of a
// 2-byte big-endian length and op:user:domain[:secret], answered with a 2-byte value
// in a frame of its own.
type ejabberd struct {
	persistent
	max    int
	binary bool           // never say 2
	skip   int            // bytes of an oversize frame that are still to be dropped
	op     auth.Operation // of the oversize frame
}

// Decode implements Codec. A frame over the limit is dropped as it arrives and refused
// at its end: its length is known, so the stream stays in step.
func (e *ejabberd) Decode(buf []byte, req *auth.Request) (int, Event) {
	if e.skip > 0 {
		return e.drop(buf, req)
	}
	if len(buf) < ejabberdPrefix {
		return 0, More
	}
	size := int(binary.BigEndian.Uint16(buf))
	switch {
	case size == 0: // never sent by ejabberd; xcauth's end of stream
		return ejabberdPrefix, Quit
	case size > e.max:
		// The operation is needed for the answer, and max is never below its length.
		if len(buf) < ejabberdPrefix+longestOperation {
			return 0, More
		}
		e.skip, e.op = ejabberdPrefix+size, leadingOperation(buf[ejabberdPrefix:])
		return e.drop(buf, req)
	case len(buf) < ejabberdPrefix+size:
		return 0, More
	}
	n := ejabberdPrefix + size
	return n, decodeColon(buf[ejabberdPrefix:n], false, req)
}

// drop consumes what it can of an oversize frame.
func (e *ejabberd) drop(buf []byte, req *auth.Request) (int, Event) {
	n := min(e.skip, len(buf))
	e.skip -= n
	if e.skip > 0 {
		return n, More
	}
	return n, refuse(req, e.op)
}

// AppendAnswer implements Codec. ejabberd knows 1 and 0; it logs any other value as
// an error of that one call, remembers nothing and keeps the program. So 2 is said
// where 0 would be a lie: for "cannot tell", and for a setpass that was not carried
// out, because ejabberd takes 0 to setpass for success (FIELD 1.6, 1.7).
func (e *ejabberd) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	value := byte(2)
	switch a.Verdict {
	case auth.Allow:
		value = 1
	case auth.Deny:
		if req.Op != auth.OpSetPass {
			value = 0
		}
	case auth.Unsupported:
		if !req.Op.Changes() {
			value = 0
		}
	}
	if value == 2 && e.binary {
		value = 0
	}
	return append(dst, 0, 2, 0, value)
}
