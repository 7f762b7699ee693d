package wire

import (
	"bytes"
	"strings"

	"postern/internal/auth"
)

// addressKey is what Postfix's lookup protocols have in common: a mail address as the key. Being
// found means that the user exists.
type addressKey struct {
	delimiters string // see Options.RecipientDelimiter
}

// ask makes a request of an address, which it rearranges in place.
func (m addressKey) ask(address []byte, req *auth.Request) Event {
	local, domain, ok := splitAddress(address)
	if !ok {
		return refuse(req, auth.OpIsUser)
	}
	both := string(address[:local+domain]) // one allocation for all names
	r := auth.Request{Op: auth.OpIsUser, User: both[:local], Domain: both[local:]}
	if m.delimiters != "" {
		if end := strings.IndexAny(r.User, m.delimiters); end > 0 && auth.CheckUser(r.User[:end]) == nil {
			r.Base = r.User[:end]
		}
	}
	return fill(req, r, nil)
}

// splitAddress rearranges address in place so that it begins with the user, unquoted,
// followed by the domain, and returns their lengths. An '@' that remains in the user
// is refused later, with the other bytes that no name may hold.
func splitAddress(address []byte) (user, domain int, ok bool) {
	at := bytes.LastIndexByte(address, '@')
	if len(address) > 0 && address[0] == '"' {
		user, at, ok = unquote(address)
		if !ok {
			return 0, 0, false
		}
	} else {
		user = at
	}
	if at < 0 {
		return 0, 0, false
	}
	domain = copy(address[user:], address[at+1:])
	return user, domain, domain > 0
}

// unquote undoes the quoted-string form of a local part (RFC 5321 section 4.1.2) in
// place: it returns the length of the content and the index of the '@' after the
// closing quote.
func unquote(address []byte) (size, at int, ok bool) {
	for i := 1; i < len(address); i++ {
		switch address[i] {
		case '"':
			at = i + 1
			return size, at, at < len(address) && address[at] == '@'
		case '\\':
			if i++; i == len(address) {
				return 0, 0, false
			}
		}
		address[size] = address[i]
		size++
	}
	return 0, 0, false
}
