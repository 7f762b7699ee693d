package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/internal/auth"
)

// Sizes in bytes.
const (
	saslauthdPrefix   = 2    // of a field's length
	saslauthdMaxField = 8192 // Cyrus stops at 256, but tokens are longer
)

// saslauthd is the protocol between libsasl2 and Cyrus saslauthd: user, password, service and
// realm, each a 2-byte big-endian length and bytes, answered with a length and a text that
// begins OK or NO. There is one request per connection, but see Codec.OneShot.
type saslauthd struct {
	max   int
	fixed string // see Options.FixedDomain
	done  bool   // the request has come; what follows is dropped
}

// Decode implements Codec. A length over the limit is refused without waiting for the bytes.
// cyrus-sasl's main branch sends a fifth field, the client's address and port. It is used if it
// came with the rest and never waited for, since released versions do not send it.
func (s *saslauthd) Decode(buf []byte, req *auth.Request) (int, Event) {
	if s.done {
		return len(buf), More
	}
	var fields [4][]byte
	n := 0
	for i := range fields {
		var ev Event
		if fields[i], n, ev = s.field(buf, n); ev == More {
			return 0, More
		} else if ev == RefuseBroken {
			s.done = true
			refuse(req, auth.OpAuth, faultLong)
			return len(buf), RefuseBroken
		}
	}
	s.done = true
	address := []byte(nil)
	if fifth, end, ev := s.field(buf, n); ev == Ask {
		address, _, _ = bytes.Cut(fifth, []byte{';'})
		n = end
	}
	return n, s.decodeLogin(req, fields, address)
}

// field returns the length-prefixed field at pos and its end, with Ask; or More, or
// RefuseBroken for a length over a limit.
func (s *saslauthd) field(buf []byte, pos int) (field []byte, end int, ev Event) {
	start := pos + saslauthdPrefix
	if len(buf) < start {
		return nil, 0, More
	}
	size := int(binary.BigEndian.Uint16(buf[pos:]))
	end = start + size
	switch {
	case size > saslauthdMaxField || end > s.max:
		return nil, 0, RefuseBroken
	case len(buf) < end:
		return nil, 0, More
	}
	return buf[start:end], end, Ask
}

// decodeLogin makes a request of the four fields and the client's address.
func (s *saslauthd) decodeLogin(req *auth.Request, fields [4][]byte, address []byte) Event {
	user, secret, service, realm := fields[0], fields[1], fields[2], fields[3]
	var b strings.Builder // one allocation for everything but the password
	b.Grow(len(user) + len(service) + len(realm) + len(address))
	for _, part := range [][]byte{user, service, realm, address} {
		b.Write(part)
	}
	text := b.String()
	take := func(part []byte) string {
		taken := text[:len(part)]
		text = text[len(part):]
		return taken
	}
	r := auth.Request{Op: auth.OpAuth, User: take(user), Service: take(service), Domain: take(realm)}
	r.Client = clientAddress(take(address))
	if at := strings.LastIndexByte(r.User, '@'); r.Domain == "" && at >= 0 {
		// libsasl2 splits the name itself, testsaslauthd does not.
		r.User, r.Domain = r.User[:at], r.User[at+1:]
		if r.Domain == "" {
			return refuseNamed(req, r, faultDomain)
		}
	}
	if !plainText(r.Service) {
		return refuseNamed(req, r, faultService)
	}
	if s.fixed != "" {
		r.Domain = s.fixed
	}
	return fill(req, r, secret)
}

// clientAddress returns address if it is an IP address, else "". A bad one is not refused,
// since it only distinguishes clients.
func clientAddress(address string) string {
	if address == "" || !plainText(address) {
		return ""
	}
	if _, err := netip.ParseAddr(address); err != nil {
		return ""
	}
	return address
}

// plainText reports whether text can be logged: UTF-8 without control characters, empty or at
// most as long as a name.
func plainText(text string) bool {
	return len(text) <= auth.MaxName && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// AppendAnswer implements Codec. A length of 0 makes libsasl2 report a temporary failure
// (Postfix: 454) and close its socket.
func (s *saslauthd) AppendAnswer(dst []byte, _ *auth.Request, a auth.Answer) []byte {
	text := "NO authentication failed"
	switch a.Verdict {
	case auth.Allow:
		text = "OK success"
	case auth.Unavailable:
		text = ""
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(text)))
	return append(dst, text...)
}

// OneShot implements Codec.
func (s *saslauthd) OneShot() bool { return true }
