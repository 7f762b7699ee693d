package wire

import (
	"postern/internal/auth"
)

// generic is the line protocol of Prosody's mod_auth_external and of xcauth:
// op:user:domain[:secret] and LF, answered with 1 or 0 and LF.
type generic struct {
	persistent
	lines lineSplitter
}

// Decode implements Codec.
func (g *generic) Decode(buf []byte, req *auth.Request) (int, Event) {
	line, n, st := g.lines.next(buf)
	switch st {
	case linePartial:
		return n, More
	case lineTooLong:
		return n, refuse(req, g.lines.op, faultLong)
	}
	return n, decodeColon(line, true, req)
}

// AppendAnswer implements Codec. The protocol has no word for a temporary failure: Prosody takes
// everything but 1 as a refusal of this one login and remembers nothing.
func (g *generic) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	switch {
	case req.Op == auth.OpRoster:
		return appendRoster(dst, a)
	case a.Verdict == auth.Allow:
		return append(dst, '1', '\n')
	}
	return append(dst, '0', '\n')
}

// appendRoster appends the backend's document as one line, or xcauth's word None. A line break
// would end the reply early. In JSON it may stand only between tokens, where a space means the
// same.
func appendRoster(dst []byte, a auth.Answer) []byte {
	if a.Verdict != auth.Allow || len(a.Body) == 0 {
		return append(dst, "None\n"...)
	}
	start := len(dst)
	dst = append(dst, a.Body...)
	for i, c := range dst[start:] {
		if c == '\n' || c == '\r' {
			dst[start+i] = ' '
		}
	}
	return append(dst, '\n')
}
