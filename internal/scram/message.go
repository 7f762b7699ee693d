package scram

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Bounds of messages, in bytes.
const (
	maxFirst = 4096
	maxNonce = 256
)

// Errors of an exchange. They are wrapped, and hold nothing that a client sent.
var (
	ErrMessage   = errors.New("malformed SCRAM message")
	ErrMechanism = errors.New("the mechanism is not known")
	ErrBinding   = errors.New("the channel binding does not match")
	ErrDowngrade = errors.New("the client can bind channels and was not offered that: the list of mechanisms was changed on its way")
	ErrNonce     = errors.New("the nonce is not that of the exchange")
	ErrState     = errors.New("the exchange is not one of this process, or took too long: the client must begin again")
	ErrSpent     = errors.New("the exchange has ended before")
	ErrCrowded   = errors.New("too many exchanges end at once")
)

// plus is the end of the names of mechanisms with channel binding.
const plus = "-PLUS"

// parseMechanism reads the name of a mechanism.
func parseMechanism(name string) (h Hash, binds, ok bool) {
	name, binds = strings.CutSuffix(name, plus)
	for h := range Hash(Hashes) {
		if name == "SCRAM-"+h.String() {
			return h, binds, true
		}
	}
	return 0, false, false
}

// firstMessage is a client-first-message.
type firstMessage struct {
	gs2     string // the header, with its last comma
	flag    byte   // n, y or p
	binding string // the type of channel binding, with the flag p
	bare    string // the rest of the message
	nonce   string
}

// parseFirst reads a client-first-message.
func parseFirst(text string) (m firstMessage, err error) {
	bad := func(what string) (firstMessage, error) { return firstMessage{}, fmt.Errorf("%w: %s", ErrMessage, what) }
	if len(text) > maxFirst {
		return bad("it is too long")
	}
	flag, rest, ok := strings.Cut(text, ",")
	switch binding, bound := strings.CutPrefix(flag, "p="); {
	case !ok:
		return bad("no header")
	case bound && isBinding(binding):
		m.flag, m.binding = 'p', binding
	case flag == "n", flag == "y":
		m.flag = flag[0]
	default:
		return bad("no channel binding flag")
	}
	as, bare, ok := strings.Cut(rest, ",")
	if !ok || as != "" && !strings.HasPrefix(as, "a=") {
		return bad("no authorization identity, nor its absence")
	}
	m.gs2, m.bare = text[:len(text)-len(bare)], bare
	user, rest, ok := strings.Cut(bare, ",")
	if name, has := strings.CutPrefix(user, "n="); !ok || !has || !isName(name) {
		return bad("no user, or a mandatory extension")
	}
	nonce, _, _ := strings.Cut(rest, ",")
	if m.nonce, ok = strings.CutPrefix(nonce, "r="); !ok || !isNonce(m.nonce) {
		return bad("no nonce")
	}
	return m, nil
}

// isBinding reports whether a text may be the name of a type of channel binding.
func isBinding(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	})
}

// isName reports whether a text is a saslname: "=" stands only before 2C and 3D.
func isName(text string) bool {
	for i := strings.IndexByte(text, '='); i >= 0; i = strings.IndexByte(text, '=') {
		if text = text[i+1:]; !strings.HasPrefix(text, "2C") && !strings.HasPrefix(text, "3D") {
			return false
		}
	}
	return true
}

// isNonce reports whether a text may be a client's nonce.
func isNonce(text string) bool {
	return text != "" && len(text) <= maxNonce && !strings.ContainsFunc(text, func(r rune) bool { return r < '!' || r > '~' || r == ',' })
}

// finalMessage is a client-final-message.
type finalMessage struct {
	binding []byte // decoded: the header, and the data of the channel binding
	nonce   string
	without string // the message without its proof
	proof   []byte
}

// parseFinal reads a client-final-message with the proof of a hash.
func parseFinal(text string, h Hash) (m finalMessage, err error) {
	bad := func(what string) (finalMessage, error) { return finalMessage{}, fmt.Errorf("%w: %s", ErrMessage, what) }
	at := strings.LastIndex(text, ",p=")
	if at < 0 {
		return bad("no proof")
	}
	m.without = text[:at]
	var ok bool
	if m.proof, ok = decode(text[at+len(",p="):], h.size()); !ok {
		return bad("the proof is damaged")
	}
	binding, rest, _ := strings.Cut(m.without, ",")
	if binding, ok = strings.CutPrefix(binding, "c="); !ok {
		return bad("no channel binding")
	}
	if m.binding, err = base64.StdEncoding.Strict().DecodeString(binding); err != nil {
		return bad("the channel binding is damaged")
	}
	nonce, _, _ := strings.Cut(rest, ",")
	if m.nonce, ok = strings.CutPrefix(nonce, "r="); !ok {
		return bad("no nonce")
	}
	return m, nil
}
