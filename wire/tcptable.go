package wire

import (
	"bytes"

	"postern/internal/auth"
)

// tcpTableMaxFrame holds an address of two names of 1023 bytes with every byte coded.
const tcpTableMaxFrame = 8192

// tcpTable is Postfix's tcp_table(5) protocol (PROTOCOLS 3.4): "get KEY" lines, answered
// with a status and a text. The key is a mail address; being found means that the user
// exists.
type tcpTable struct {
	lines   lineSplitter
	address addressKey
	scratch []byte // the decoded key; it outlives a call only to be used again
}

func newTCPTable(o Options) *tcpTable {
	return &tcpTable{lines: lineSplitter{max: o.maxFrame(tcpTableMaxFrame)}, address: addressKey{o.RecipientDelimiter}}
}

// Decode implements Codec.
func (t *tcpTable) Decode(buf []byte, req *auth.Request) (int, Event) {
	line, n, st := t.lines.next(buf)
	switch {
	case st == linePartial:
		return n, More
	case st == lineTooLong:
		return n, refuse(req, auth.OpNone)
	case string(line) == "quit": // xcauth's extension
		return n, Quit
	}
	key, get := bytes.CutPrefix(line, []byte("get "))
	if !get {
		return n, refuse(req, auth.OpNone)
	}
	return n, t.decodeKey(key, req)
}

// decodeKey undoes the %XX coding first and the quoting of the local part second, as
// they were put on in the opposite order.
func (t *tcpTable) decodeKey(key []byte, req *auth.Request) Event {
	address, ok := appendUncoded(t.scratch[:0], key)
	t.scratch = address
	if !ok {
		return refuse(req, auth.OpIsUser)
	}
	return t.address.ask(address, req)
}

// appendUncoded appends key with every %XX, of either case, replaced by its byte. It
// refuses an incomplete %XX and white space or a control character outside of one:
// Postfix codes these. '+' is a letter like any other.
func appendUncoded(dst, key []byte) ([]byte, bool) {
	for i := 0; i < len(key); i++ {
		c := key[i]
		switch {
		case c <= ' ' || c == 0x7f:
			return dst, false
		case c == '%':
			if i+2 >= len(key) {
				return dst, false
			}
			high, low := hexDigit(key[i+1]), hexDigit(key[i+2])
			if high > 15 || low > 15 {
				return dst, false
			}
			c = high<<4 | low
			i += 2
		}
		dst = append(dst, c)
	}
	return dst, true
}

// hexDigit returns the value of a hexadecimal digit, and 255 for any other byte.
func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// AppendAnswer implements Codec. Postfix decodes %XX in every text and gives up on a
// stray one, so no text holds a '%'; and a 200 without a text is a warning in its log.
func (t *tcpTable) AppendAnswer(dst []byte, _ *auth.Request, a auth.Answer) []byte {
	text := "400 temporarily unavailable\n"
	switch {
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

// OneShot implements Codec.
func (t *tcpTable) OneShot() bool { return false }
