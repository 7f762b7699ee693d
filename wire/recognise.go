package wire

import (
	"bytes"
	"encoding/binary"
	"strings"

	"postern/internal/auth"
)

// Foreign is another protocol than that of a connection, as its first bytes show.
type Foreign struct {
	Looks string   // for the log: what the bytes look like, as in "an HTTP request"
	Wants Protocol // the listener that the peer means; empty: none of postern's
	// Sure: no request of the connection's own protocol begins so. If it is not set, the bytes could
	// still become one when more of them arrive.
	Sure bool
}

// Recognise looks at the first bytes of a connection, which may be the beginning of a request. ok
// is true if they are another protocol's. A request of the connection's own protocol is never taken
// for another one, and neither is what is merely malformed.
func Recognise(own Protocol, first []byte) (f Foreign, ok bool) {
	fits := begins(own, first)
	if fits && own != Saslauthd {
		return Foreign{}, false
	}
	for _, row := range foreign {
		if row.wants == own || !row.looks(first) {
			continue
		}
		// A user of saslauthd may have any name, even one that is a request of ejabberd.
		if fits && (row.wants != Ejabberd || !oneFrame(first)) {
			continue
		}
		return Foreign{Looks: row.name, Wants: row.wants, Sure: !fits}, true
	}
	return Foreign{}, false
}

// foreign is the table of the protocols that are recognised.
var foreign = []struct {
	name  string
	wants Protocol
	looks func([]byte) bool
}{
	{"an HTTP request", "", looksHTTP},
	{"a TLS handshake", "", func(b []byte) bool { return len(b) > 2 && b[0] == 0x16 && b[1] == 3 && b[2] <= 4 }},
	{"an SSH client", "", prefixed("SSH-")},
	{"a proxy's header", "", prefixed("PROXY TCP", "PROXY UNKNOWN", "\r\n\r\n\x00\r\nQUIT\n")},
	{"an XMPP stream", "", prefixed("<?xml", "<stream:stream")},
	{"an SMTP client", "", prefixed("EHLO ", "HELO ", "ehlo ", "helo ")},
	{"a request of ejabberd", Ejabberd, func(b []byte) bool {
		return len(b) > ejabberdPrefix && (operationWord(b[ejabberdPrefix:]) || prefixed(moduleWords[:]...)(b[ejabberdPrefix:]))
	}},
	{"a line of Prosody's modules or of xcauth", Generic, operationWord},
	{"a login of saslauthd's clients", Saslauthd, looksSaslauthd},
	{"a lookup of a tcp_table", TCPTable, prefixed("get ")},
	{"a lookup of a socketmap", Socketmap, looksNetstring},
	{"a lookup in Dovecot's userdb", DovecotUserdb, looksUserdb},
	{"a client of Dovecot's auth service", Dovecot, prefixed("VERSION\t", "CPID\t")},
}

// begins reports whether first may be the beginning of a request of a protocol that its peers send.
// Of a protocol that is not here every beginning may be.
func begins(p Protocol, first []byte) bool {
	switch p {
	case Ejabberd:
		return len(first) < ejabberdPrefix || binary.BigEndian.Uint16(first) == 0 ||
			startOf(first[ejabberdPrefix:], operationWords[:]...) || startOf(first[ejabberdPrefix:], moduleWords[:]...)
	case Generic:
		return startOf(first, operationWords[:]...)
	case Saslauthd:
		return saslauthdUser(first)
	case TCPTable:
		return startOf(first, "get ", "quit\n", "quit\r\n")
	case Socketmap:
		return len(first) == 0 || first[0] >= '0' && first[0] <= '9'
	case Dovecot:
		return startOf(first, "VERSION\t", "CPID\t")
	case DovecotUserdb:
		return startOf(first, "VERSION\t", userdbWords[0], userdbWords[1], userdbWords[2])
	case Relay:
		return len(first) < 4 || binary.BigEndian.Uint32(first) <= relayMaxFrame
	}
	return true
}

// operationWords are the beginnings of the requests of ejabberd and of the line protocol.
var operationWords = [...]string{
	"auth:", "isuser:", "setpass:", "tryregister:", "removeuser:", "removeuser3:", "certauth:", "roster:", "quit", "exit",
}

// moduleWords are those of Prosody's mod_auth_postern besides.
var moduleWords = [...]string{"login:", "account:", "watch:"}

// userdbWords begin the requests of dovecot_userdb, after a line that other protocols of Dovecot have too.
var userdbWords = [...]string{"USER\t", "PASS\t", "LIST\t"}

// startOf reports whether text begins with one of some words, or may once it is longer.
func startOf(text []byte, words ...string) bool {
	for _, word := range words {
		if n := min(len(word), len(text)); string(text[:n]) == word[:n] {
			return true
		}
	}
	return false
}

// operationWord reports whether a text begins with the word of an operation and a colon.
func operationWord(text []byte) bool { return leadingOperation(text) != auth.OpNone }

// prefixed returns a function that reports whether bytes begin with one of some texts.
func prefixed(texts ...string) func([]byte) bool {
	return func(b []byte) bool {
		for _, text := range texts {
			if bytes.HasPrefix(b, []byte(text)) {
				return true
			}
		}
		return false
	}
}

// maxRequestLine bounds the first line of HTTP that is looked at.
const maxRequestLine = 4096

// looksUserdb recognises a request of dovecot_userdb, with or without the line of the version.
func looksUserdb(b []byte) bool {
	return prefixed(userdbWords[:]...)(afterVersion(b))
}

// afterVersion returns what comes after the line with which Dovecot's protocols begin, if it is whole.
func afterVersion(b []byte) []byte {
	if bytes.HasPrefix(b, []byte("VERSION\t")) {
		if _, rest, whole := bytes.Cut(b, []byte{'\n'}); whole {
			return rest
		}
	}
	return b
}

// looksHTTP recognises a usual method and the blank after it, and any other one in a whole first line.
func looksHTTP(b []byte) bool {
	if line, _, whole := bytes.Cut(b[:min(len(b), maxRequestLine)], []byte{'\n'}); whole {
		method, _, _ := bytes.Cut(line, []byte{' '})
		if bytes.Contains(line, []byte(" HTTP/")) && bytes.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == nil {
			return true
		}
	}
	const longest = len("PROPFIND")
	method, _, ok := bytes.Cut(b[:min(len(b), longest+1)], []byte{' '})
	if !ok {
		return false
	}
	switch string(method) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "PRI":
		return true
	}
	return false
}

// looksSaslauthd recognises a whole request: four texts with their lengths, and a user.
func looksSaslauthd(b []byte) bool {
	s := saslauthd{max: len(b)}
	n := 0
	for i := range 4 {
		field, end, ev := s.field(b, n)
		if ev != Ask || i == 0 && (len(field) == 0 || !plainText(string(field))) {
			return false
		}
		n = end
	}
	return true
}

// saslauthdUser reports whether first may be the beginning of a request with a user that is not
// refused.
func saslauthdUser(first []byte) bool {
	if len(first) < saslauthdPrefix {
		return len(first) == 0 || int(first[0])<<8 <= saslauthdMaxField
	}
	size := int(binary.BigEndian.Uint16(first))
	user := first[saslauthdPrefix:]
	return size > 0 && size <= saslauthdMaxField && bytes.IndexFunc(user[:min(size, len(user))], func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}

// oneFrame reports whether b is exactly one frame of ejabberd.
func oneFrame(b []byte) bool {
	return len(b) >= ejabberdPrefix && int(binary.BigEndian.Uint16(b)) == len(b)-ejabberdPrefix
}

// looksNetstring recognises the length of a netstring, and the name of a map and the blank after it.
func looksNetstring(b []byte) bool {
	_, digits, ev := netstringSize(b)
	if ev != Ask {
		return false
	}
	name, _, ok := bytes.Cut(b[digits+1:], []byte{' '})
	return ok && len(name) > 0 && !strings.ContainsFunc(string(name), func(r rune) bool { return r <= ' ' || r > '~' })
}
