package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"postern/internal/auth"
)

// The layout of a JSXC token: version, MAC, key id, expiry.
const (
	jsxcBytes   = 23
	jsxcText    = 31 // base64 without padding
	jsxcVersion = 0
	jsxcMAC     = 1  // offsets
	jsxcKeyID   = 17 // also the end of the MAC
	jsxcExpiry  = 19
)

// jsxcAlphabet is base64 with the letters that are easily misread replaced: '-' for O,
// '$' for I, '%' for l.
const jsxcAlphabet = "ABCDEFGH$JKLMN-PQRSTUVWXYZabcdefghijk%mnopqrstuvwxyz0123456789+/"

// JSXC verifies and issues JSXC's time-limited tokens with one or more secrets. It is
// safe for concurrent use.
type JSXC struct{ keys []jsxcKey }

type jsxcKey struct {
	id  [2]byte
	mac *keyedMAC
}

// NewJSXC takes the secrets of a domain: the API secret that it shares with the JSXC
// app, and during a rotation its predecessors. The first one signs what Issue makes.
// The error wraps ErrSecret: no secret is given, or one is empty.
func NewJSXC(secrets []auth.Secret) (*JSXC, error) {
	if err := checkSecrets(secrets); err != nil {
		return nil, fmt.Errorf("jsxc token: %w", err)
	}
	j := &JSXC{}
	for _, s := range secrets {
		j.keys = append(j.keys, jsxcKey{KeyID(s), newKeyedMAC(sha256.New, []byte(s.Reveal()))})
	}
	return j, nil
}

// KeyID returns the two bytes by which a JSXC token names its secret: the first ones of
// the secret's SHA-256.
func KeyID(secret auth.Secret) [2]byte {
	sum := sha256.Sum256([]byte(secret.Reveal()))
	return [2]byte(sum[:2])
}

// Verify checks password as a token of id at the time now: it is NotToken, Valid, Expired or
// Invalid. The signed text is user@domain byte for byte, without any folding: the issuer signs the
// address as the XMPP server has it. A token is valid to the end of the second in which it
// expires, any number of times.
func (j *JSXC) Verify(id auth.Identity, password string, now time.Time) Status {
	raw, ok := decodeJSXC(password)
	if !ok || raw[0] != jsxcVersion {
		return NotToken
	}
	if ambiguous(id) || !j.signed(id, &raw) {
		return Invalid
	}
	if now.Unix() > jsxcExpires(&raw) {
		return Expired
	}
	return Valid
}

// signed reports whether a secret with the token's key id has signed it. Two secrets may have the
// same key id.
func (j *JSXC) signed(id auth.Identity, raw *[jsxcBytes]byte) bool {
	for _, k := range j.keys {
		if k.id != [2]byte(raw[jsxcKeyID:]) {
			continue
		}
		state := k.mac.begin()
		equal := subtle.ConstantTimeCompare(state.jsxcSum(id, raw), raw[jsxcMAC:jsxcKeyID])
		k.mac.end(state)
		if equal == 1 {
			return true
		}
	}
	return false
}

// jsxcSum returns the MAC of version, key id, expiry and JID.
func (s *macState) jsxcSum(id auth.Identity, raw *[jsxcBytes]byte) []byte {
	s.text = append(s.text[:0], raw[0])
	s.text = append(s.text, raw[jsxcKeyID:]...)
	s.addJID(id)
	return s.sum()[:jsxcKeyID-jsxcMAC]
}

// Issue makes a token of id that is valid until expires, in whole seconds. The error
// wraps auth.ErrMalformed for an identity that no token may name. A time that does not fit into
// 32 bits is an error too; the original wraps around.
func (j *JSXC) Issue(id auth.Identity, expires time.Time) (auth.Secret, error) {
	if err := signable(id); err != nil {
		return auth.Secret{}, err
	}
	unix := expires.Unix()
	if unix < 0 || unix > math.MaxUint32 {
		return auth.Secret{}, fmt.Errorf("issue token: expiry %s is not within 1970 to 2106", expires.UTC().Format(time.RFC3339))
	}
	key := j.keys[0]
	var raw [jsxcBytes]byte
	copy(raw[jsxcKeyID:], key.id[:])
	binary.BigEndian.PutUint32(raw[jsxcExpiry:], uint32(unix))
	state := key.mac.begin()
	copy(raw[jsxcMAC:jsxcKeyID], state.jsxcSum(id, &raw))
	key.mac.end(state)
	encoding := base64.NewEncoding(jsxcAlphabet).WithPadding(base64.NoPadding)
	return auth.NewSecret(encoding.EncodeToString(raw[:])), nil
}

// LooksJSXC reports whether password has the form of a JSXC token of the known version, so that
// Verify would not return NotToken.
func LooksJSXC(password string) bool {
	raw, ok := decodeJSXC(password)
	return ok && raw[0] == jsxcVersion
}

// InspectJSXC returns the readable content of a token of any version. It does not check the
// signature. The error wraps ErrFormat.
func InspectJSXC(token string) (Info, error) {
	raw, ok := decodeJSXC(token)
	if !ok {
		return Info{}, fmt.Errorf("%w: a JSXC token is %d letters, digits and + / - $ %% without O, I and l", ErrFormat, jsxcText)
	}
	return Info{Version: raw[0], KeyID: [2]byte(raw[jsxcKeyID:]), Expires: time.Unix(jsxcExpires(&raw), 0).UTC()}, nil
}

func jsxcExpires(raw *[jsxcBytes]byte) int64 {
	return int64(binary.BigEndian.Uint32(raw[jsxcExpiry:]))
}

// decodeJSXC accepts only the form that the issuer writes. encoding/base64 would
// skip line breaks.
func decodeJSXC(text string) (raw [jsxcBytes]byte, ok bool) {
	if len(text) != jsxcText {
		return raw, false
	}
	var bits uint32
	held, n := 0, 0
	for i := range jsxcText {
		six := jsxcSextet(text[i])
		if six > 63 {
			return raw, false
		}
		bits, held = bits<<6|uint32(six), held+6
		if held >= 8 {
			held -= 8
			raw[n] = byte(bits >> held)
			n++
		}
	}
	return raw, bits&(1<<held-1) == 0 // 31 letters are 23 bytes and two bits, which are 0
}

// jsxcSextet returns the place of c in jsxcAlphabet, or 255.
func jsxcSextet(c byte) byte {
	switch c {
	case 'O', 'I', 'l':
		return 255
	case '-':
		return 'O' - 'A'
	case '$':
		return 'I' - 'A'
	case '%':
		return 'l' - 'a' + 26
	}
	return sextet(c)
}

// sextet returns the value of a letter of standard base64 (RFC 4648 section 4), or 255.
func sextet(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c - 'A'
	case c >= 'a' && c <= 'z':
		return c - 'a' + 26
	case c >= '0' && c <= '9':
		return c - '0' + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return 255
}
