package wire

import (
	"bytes"
	"strconv"

	"postern/internal/auth"
)

// The socketmap protocol in bytes.
const (
	socketmapMaxFrame = 8192   // of a request that may be asked: an address of two long names
	socketmapLongest  = 100000 // of a netstring, socketmap_table(5)
	socketmapDigits   = 6      // of the longest length
)

// socketmap is Postfix's socketmap_table(5) protocol (PROTOCOLS 3.5): netstrings of "NAME
// KEY", answered with netstrings. Two names are served: mailbox, whose key is an address that
// exists or not, and domain, whose key is a domain that is configured here or not.
type socketmap struct {
	address addressKey
	max     int
	skip    int    // bytes of an oversize netstring that are still to be dropped
	scratch []byte // the address; it outlives a call only to be used again
}

func newSocketmap(o Options) *socketmap {
	return &socketmap{address: addressKey{o.RecipientDelimiter}, max: o.maxFrame(socketmapMaxFrame)}
}

// Decode implements Codec. A netstring over the limit is dropped as it arrives and refused at
// its end; anything that is no netstring ends the connection.
func (s *socketmap) Decode(buf []byte, req *auth.Request) (int, Event) {
	if s.skip > 0 {
		n := min(s.skip, len(buf))
		if s.skip -= n; s.skip > 0 {
			return n, More
		}
		return n, refuse(req, auth.OpIsUser)
	}
	size, digits, ev := netstringSize(buf)
	switch ev {
	case More:
		return 0, More
	case Broken:
		return len(buf), Broken
	}
	start, whole := digits+1, digits+1+size+1
	if whole > s.max {
		s.skip = whole
		return s.Decode(buf, req)
	}
	if len(buf) < whole {
		return 0, More
	}
	if buf[whole-1] != ',' {
		return len(buf), Broken
	}
	return whole, s.decodeQuery(buf[start:whole-1], req)
}

// netstringSize reads the length of a netstring: decimal, without leading zeros or white space.
func netstringSize(buf []byte) (size, digits int, ev Event) {
	for digits < len(buf) && buf[digits] >= '0' && buf[digits] <= '9' {
		if digits++; digits > socketmapDigits {
			return 0, 0, Broken
		}
	}
	switch {
	case digits > 1 && buf[0] == '0':
		return 0, 0, Broken
	case digits == len(buf):
		return 0, 0, More
	case digits == 0 || buf[digits] != ':':
		return 0, 0, Broken
	}
	size, err := strconv.Atoi(string(buf[:digits]))
	if err != nil || size > socketmapLongest {
		return 0, 0, Broken
	}
	return size, digits, Ask
}

func (s *socketmap) decodeQuery(query []byte, req *auth.Request) Event {
	name, key, found := bytes.Cut(query, []byte(" "))
	switch {
	case found && string(name) == "mailbox":
		s.scratch = append(s.scratch[:0], key...)
		return s.address.ask(s.scratch, req)
	case found && string(name) == "domain":
		return fill(req, auth.Request{Op: auth.OpIsDomain, Domain: string(key)}, nil)
	}
	return refuse(req, auth.OpNone)
}

// AppendAnswer implements Codec. An OK without a space and a value would be "not found", and
// PERM is said of a name that is not served: a configuration error that bounces no mail.
func (s *socketmap) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	text := "20:TEMP try again later,"
	switch {
	case a.Verdict == auth.Allow:
		text = "5:OK OK,"
	case a.Verdict == auth.Unsupported, a.Verdict == auth.Deny && req.Op == auth.OpNone:
		text = "18:PERM not supported,"
	case a.Verdict == auth.Deny:
		text = "9:NOTFOUND ,"
	}
	return append(dst, text...)
}

// OneShot implements Codec.
func (s *socketmap) OneShot() bool { return false }
