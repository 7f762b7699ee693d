package wire

import (
	"encoding/binary"

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
	return n, decodeColon(buf[ejabberdPrefix:n], false, req)
}

// drop consumes an oversize frame as far as it has arrived.
func (e *ejabberd) drop(buf []byte, req *auth.Request) (int, Event) {
	n := min(e.skip, len(buf))
	e.skip -= n
	if e.skip > 0 {
		return n, More
	}
	return n, refuse(req, e.op)
}

// AppendAnswer implements Codec. ejabberd logs any value but 1 and 0 as an error of that one
// call, caches nothing and keeps the program running. So the answer is 2 where 0 would be wrong:
// for a temporary failure, and for a setpass that failed, since ejabberd takes 0 to setpass for
// success.
func (e *ejabberd) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	value := byte(2)
	switch {
	case a.Verdict == auth.Allow:
		value = 1
	case e.binary, a.Verdict == auth.Deny && req.Op != auth.OpSetPass, a.Verdict == auth.Unsupported && !req.Op.Changes():
		value = 0
	}
	return append(dst, 0, 2, 0, value)
}
