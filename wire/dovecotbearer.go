package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"postern/internal/auth"
)

// Bearer is what the dovecot protocol says of bearer tokens.
type Bearer struct {
	Offered bool // the mechanisms OAUTHBEARER and XOAUTH2 are
	// Discovery is the URL of the issuer's discovery document, and Scope what a token must have: for clients after a
	// refusal. Empty: not said.
	Discovery, Scope string
}

// mechanism is a SASL mechanism of the dovecot protocol.
type mechanism uint8

const (
	mechNone mechanism = iota
	mechPlain
	mechLogin
	mechOAuthBearer // RFC 7628
	mechXOAuth2     // Google's predecessor of it
)

// bearer reports whether the mechanism has a token in place of a password.
func (m mechanism) bearer() bool { return m == mechOAuthBearer || m == mechXOAuth2 }

// mechanismOf returns the mechanism of a name, in any letter case, if the listener has it.
func (d *dovecot) mechanismOf(name []byte) mechanism {
	switch word := strings.ToUpper(string(name)); {
	case word == "PLAIN":
		return mechPlain
	case word == "LOGIN":
		return mechLogin
	case word == "OAUTHBEARER" && d.bearer.Offered:
		return mechOAuthBearer
	case word == "XOAUTH2" && d.bearer.Offered:
		return mechXOAuth2
	}
	return mechNone
}

// kvsep ends the header and each pair of a message with a token.
const kvsep = "\x01"

// splitBearer reads the message of OAUTHBEARER or XOAUTH2: a header with the user, pairs of a key and a value, of which
// auth has the token, and a last separator. The token shares memory with the message.
func splitBearer(m mechanism, message []byte) (user string, token []byte, ok bool) {
	head, pairs, found := bytes.Cut(message, []byte(kvsep))
	if m == mechXOAuth2 {
		user, ok = strings.CutPrefix(string(head), "user=")
	} else {
		user, ok = authzid(string(head))
	}
	pairs, ends := bytes.CutSuffix(pairs, []byte(kvsep))
	if !ok || !found || !ends || user == "" {
		return "", nil, false
	}
	for len(pairs) > 0 {
		var pair []byte
		if pair, pairs, found = bytes.Cut(pairs, []byte(kvsep)); !found {
			return "", nil, false
		}
		key, value, isPair := bytes.Cut(pair, []byte("="))
		if !isPair || !isKey(key) || !isValue(value) || string(key) == "auth" && token != nil {
			return "", nil, false
		}
		if string(key) == "auth" {
			if token = tokenOf(value); token == nil {
				return "", nil, false
			}
		}
	}
	if token == nil {
		return "", nil, false
	}
	return user, token, true
}

// authzid reads the header of GS2 (RFC 5801): whether the client knows channel bindings, of which this protocol has
// none, and the user, in which two characters are escaped.
func authzid(header string) (user string, ok bool) {
	flag, rest, _ := strings.Cut(header, ",")
	rest, ends := strings.CutSuffix(rest, ",")
	name, named := strings.CutPrefix(rest, "a=")
	if flag != "n" && flag != "y" || !ends || !named || strings.ContainsRune(name, ',') {
		return "", false
	}
	user = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name)
	return user, strings.Count(name, "=") == strings.Count(name, "=2C")+strings.Count(name, "=3D")
}

func isKey(key []byte) bool {
	for _, c := range key {
		if (c|0x20) < 'a' || (c|0x20) > 'z' {
			return false
		}
	}
	return len(key) > 0
}

// isValue reports whether a value has printable ASCII and white space alone.
func isValue(value []byte) bool {
	for _, c := range value {
		if (c < ' ' || c > '~') && c != '\t' && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}

// tokenOf returns the token of an Authorization header (RFC 6750); nil if there is none.
func tokenOf(value []byte) []byte {
	const scheme = "bearer "
	if len(value) <= len(scheme) || !bytes.EqualFold(value[:len(scheme)], []byte(scheme)) {
		return nil
	}
	token := bytes.TrimLeft(value[len(scheme):], " ")
	if !isToken(token) {
		return nil
	}
	return token
}

// isToken reports whether a text has the form of a bearer token (token68 of RFC 7235).
func isToken(text []byte) bool {
	for _, c := range bytes.TrimRight(text, "=") {
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || bytes.IndexByte([]byte("-._~+/"), c) >= 0) {
			return false
		}
	}
	return len(text) > 0 && text[0] != '='
}

// TokenRefused is what a client learns of a token that is refused, in JSON as RFC 7628 has it.
func TokenRefused(b Bearer) []byte {
	text, _ := json.Marshal(refusal{Status: "invalid_token", Scope: b.Scope, Discovery: b.Discovery}) // texts alone
	return text
}

// refusal is what a client learns of a refused token, in the order in which Dovecot has it.
type refusal struct {
	Schemes   string `json:"schemes,omitempty"` // XOAUTH2 alone
	Status    string `json:"status"`
	Scope     string `json:"scope,omitempty"`
	Discovery string `json:"openid-configuration,omitempty"`
}

// appendRefusal appends the challenge that says why the token of g is refused, and has the login fail once the client has
// answered it, as RFC 7628 wants.
func (d *dovecot) appendRefusal(dst []byte, g *dialogue, req *auth.Request, a auth.Answer) []byte {
	id := uint32(req.Tag)
	why := refusal{Scope: d.bearer.Scope, Discovery: d.bearer.Discovery}
	switch malformed := req.Fault != ""; {
	case g.mech == mechXOAuth2 && malformed:
		why.Schemes, why.Status = "bearer", "400"
	case g.mech == mechXOAuth2:
		why.Schemes, why.Status = "bearer", "401"
	case malformed:
		why.Status = "invalid_request"
	default:
		why.Status = "invalid_token"
	}
	text, _ := json.Marshal(why) // texts alone
	g.asked, g.since = false, d.now()
	g.failure = fmt.Appendf(nil, "FAIL\t%d", id)
	if req.Fault == "" {
		g.failure = appendField(g.failure, "user=", nameOf(req, a))
	}
	g.failure = append(g.failure, '\n')
	dst = append(dst, "CONT\t"...)
	dst = strconv.AppendUint(dst, uint64(id), 10)
	dst = append(dst, '\t')
	dst = base64.StdEncoding.AppendEncode(dst, text)
	return append(dst, '\n')
}
