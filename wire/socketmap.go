package wire

import (
	"bytes"
	"fmt"
	"strconv"

	"postern/internal/auth"
)

// Sizes in bytes.
const (
	socketmapLongest = 100000 // of a netstring, socketmap_table(5)
	socketmapDigits  = 6      // of the longest length
)

// socketmap is Postfix's socketmap_table(5) protocol: netstrings of "NAME KEY", answered with
// netstrings. The names mailbox and login have addresses as their keys, the name domain the domains
// that are served here.
type socketmap struct {
	persistent
	address addressKey
	max     int
	skip    int    // bytes left of an oversize netstring
	scratch []byte // for the address
}

// Decode implements Codec. A netstring over the limit is dropped as it arrives and refused at
// its end. Anything but a netstring ends the connection.
func (s *socketmap) Decode(buf []byte, req *auth.Request) (int, Event) {
	if s.skip > 0 {
		n := min(s.skip, len(buf))
		if s.skip -= n; s.skip > 0 {
			return n, More
		}
		return n, refuse(req, auth.OpIsUser, faultLong)
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

// netstringSize reads the length of a netstring: decimal, without leading zeros or spaces.
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
	case found && (string(name) == Mailbox || string(name) == Login):
		s.scratch = append(s.scratch[:0], key...)
		return s.address.decode(s.scratch, string(name) == Login, req)
	case found && string(name) == domains:
		return fill(req, auth.Request{Op: auth.OpIsDomain, Domain: string(key)}, nil)
	case found:
		return refuse(req, auth.OpNone, fmt.Sprintf("unknown map %q: the maps are %s, %s and %s", clip(string(name)), Mailbox, Login, domains))
	}
	return refuse(req, auth.OpNone, faultForm)
}

// AppendAnswer implements Codec. Postfix reads an OK without a space and a value as not found.
// PERM, for a name that is not served, is a configuration error there and bounces no mail.
func (s *socketmap) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	text := "20:TEMP try again later,"
	switch {
	case a.Verdict == auth.Allow && req.Named:
		login, ok := loginOf(req, a)
		if ok {
			dst = strconv.AppendInt(dst, int64(len("OK ")+len(login)), 10)
			return append(append(append(dst, ":OK "...), login...), ',')
		}
		text = "9:NOTFOUND ,"
	case a.Verdict == auth.Allow:
		text = "5:OK OK,"
	case a.Verdict == auth.Unsupported, a.Verdict == auth.Deny && req.Op == auth.OpNone:
		text = "18:PERM not supported,"
	case a.Verdict == auth.Deny:
		text = "9:NOTFOUND ,"
	}
	return append(dst, text...)
}
