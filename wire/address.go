package wire

import (
	"bytes"
	"strings"

	"postern/internal/auth"
)

// Names of the tables of mail addresses: the maps of socketmap, and what a listener of tcp_table
// serves.
const (
	Mailbox = "mailbox" // is there such an address?
	Login   = "login"   // the account that an address belongs to
	domains = "domain"  // is the domain served here? socketmap only
)

// addressKey decodes a mail address as the key of a lookup. A key is found if the user exists.
type addressKey struct {
	delimiters string // see Options.RecipientDelimiter
}

// decode makes an isuser request of an address, which it overwrites. named: the answer is to be the
// account.
func (k addressKey) decode(address []byte, named bool, req *auth.Request) Event {
	local, domain, ok := splitAddress(address)
	if !ok {
		return refuse(req, auth.OpIsUser, faultAddress)
	}
	both := string(address[:local+domain]) // one allocation for all names
	r := auth.Request{Op: auth.OpIsUser, User: both[:local], Domain: both[local:], Named: named}
	if k.delimiters != "" {
		if end := strings.IndexAny(r.User, k.delimiters); end > 0 && auth.CheckUser(r.User[:end]) == nil {
			r.Base = r.User[:end]
		}
	}
	return fill(req, r, nil)
}

// splitAddress rearranges address in place: the unquoted user, then the domain. It returns
// their lengths. An '@' in the user is refused later, with the other invalid characters.
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

// unquote decodes a quoted local part (RFC 5321, section 4.1.2) in place. It returns the length
// of the content and the index of the '@' after the closing quote.
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

// accountOf returns the account that a yes is about as account@domain, or the account alone if
// there is no domain. A backend may have the whole address as the account's name.
func accountOf(req *auth.Request, a auth.Answer) string {
	user, domain := a.Account, a.Domain
	if user == "" {
		user = req.User
	}
	if domain == "" {
		domain = req.Domain
	}
	if domain == "" {
		return user
	}
	if at := len(user) - len(domain) - 1; at > 0 && user[at] == '@' && strings.EqualFold(user[at+1:], domain) {
		user = user[:at]
	}
	return user + "@" + domain
}

// loginOf is accountOf for Postfix's sender_login_maps. Postfix splits a value at commas and blanks,
// so an account with one would be two: it cannot be named, and ok is false.
func loginOf(req *auth.Request, a auth.Answer) (login string, ok bool) {
	login = accountOf(req, a)
	return login, !strings.ContainsAny(login, ", \t\r\n")
}
