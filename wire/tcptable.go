package wire

import (
	"bytes"
	"encoding/hex"

	"postern/internal/auth"
)

// tcpTable is Postfix's tcp_table(5) protocol: lines "get KEY", answered with a status and a
// text. The key is a mail address, and the table is one of AddressTables.
type tcpTable struct {
	persistent
	lines   lineSplitter
	address addressKey
	login   bool   // the table is Login
	scratch []byte // for the decoded key
}

// Decode implements Codec.
func (t *tcpTable) Decode(buf []byte, req *auth.Request) (int, Event) {
	line, n, st := t.lines.next(buf)
	switch {
	case st == linePartial:
		return n, More
	case st == lineTooLong:
		return n, refuse(req, auth.OpNone, faultLong)
	case string(line) == "quit": // an extension of xcauth
		return n, Quit
	}
	key, get := bytes.CutPrefix(line, []byte("get "))
	if !get {
		return n, refuse(req, auth.OpNone, faultForm)
	}
	return n, t.decodeKey(key, req)
}

// decodeKey decodes %XX first and the quoted local part second, the opposite order of encoding.
func (t *tcpTable) decodeKey(key []byte, req *auth.Request) Event {
	address, ok := appendUncoded(t.scratch[:0], key)
	t.scratch = address
	if !ok {
		return refuse(req, auth.OpIsUser, faultAddress)
	}
	return t.address.decode(address, t.login, req)
}

// appendUncoded appends key with every %XX, of either case, replaced by its byte. It refuses an
// incomplete %XX, and uncoded white space or control characters: Postfix codes these.
func appendUncoded(dst, key []byte) ([]byte, bool) {
	for i := 0; i < len(key); i++ {
		c := key[i]
		switch {
		case c <= ' ' || c == 0x7f:
			return dst, false
		case c == '%':
			var coded [1]byte
			if i+2 >= len(key) {
				return dst, false
			}
			if _, err := hex.Decode(coded[:], key[i+1:i+3]); err != nil {
				return dst, false
			}
			c = coded[0]
			i += 2
		}
		dst = append(dst, c)
	}
	return dst, true
}

// AppendAnswer implements Codec. Postfix decodes %XX in every text, so a '%' of an account is coded,
// and it logs a warning for a 200 without a text.
func (t *tcpTable) AppendAnswer(dst []byte, req *auth.Request, a auth.Answer) []byte {
	text := "400 temporarily unavailable\n"
	switch {
	case a.Verdict == auth.Allow && req.Named:
		login, ok := loginOf(req, a)
		if ok {
			return append(appendCoded(append(dst, "200 "...), login), '\n')
		}
		text = "500 no login name\n"
	case a.Verdict == auth.Allow:
		text = "200 OK\n"
	case a.Verdict == auth.Deny && a.Source == auth.SourceMalformed:
		text = "500 malformed request\n"
	case a.Verdict == auth.Deny:
		text = "500 no such user\n"
	case a.Verdict == auth.Unsupported:
		text = "500 not supported\n"
	}
	return append(dst, text...)
}

// appendCoded appends text with '%', white space, control and non-ASCII bytes as %XX.
func appendCoded(dst []byte, text string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '%' {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
