package token

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"postern/internal/auth"
)

// The one-time token and its one-time password (RFC 6238).
const (
	otpDigits     = 8
	otpModulus    = 100_000_000
	otpStep       = 30 // seconds
	otpSteps      = 1  // accepted before and after the current one
	signatureText = 44 // base64 of 32 bytes, with its one '='
)

// The number of digits of a nonce: what mod_auth_token's issuer writes, and the most that an issuer
// may be configured to write.
const (
	DefaultNonceDigits = 32
	MaxNonceDigits     = 64
)

// TOTP verifies and issues the tokens of Prosody's mod_auth_token. It is safe for
// concurrent use. The caller ensures with Replay that a token is used only once.
type TOTP struct {
	otp    *keyedMAC
	keys   []*keyedMAC
	digits int // of one-time password and nonce
}

// Nonce identifies one token until it expires. It is comparable, and contains nothing that would
// help to make a token.
type Nonce struct {
	// ID is the SHA-256 of address, one-time password and nonce.
	ID [sha256.Size]byte
	// Expires is the Unix time of the first second at which the one-time password is
	// no longer accepted.
	Expires int64
}

// NewTOTP takes the seed of the one-time passwords in base32 (RFC 4648 section 6; any
// letter case, padding optional) and the secrets, used as text, that sign the tokens;
// the first one signs what Issue makes. nonceDigits is the one length of nonces that is
// valid, 0 to MaxNonceDigits. The error wraps ErrSecret: the seed is empty or not base32, no secret
// is given, or one is empty.
func NewTOTP(seedBase32 auth.Secret, secrets []auth.Secret, nonceDigits int) (*TOTP, error) {
	text := strings.ToUpper(strings.TrimRight(seedBase32.Reveal(), "="))
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("totp token: %w: the seed is not base32", ErrSecret)
	case len(seed) == 0:
		return nil, fmt.Errorf("totp token: %w: the seed is empty", ErrSecret)
	}
	if err := checkSecrets(secrets); err != nil {
		return nil, fmt.Errorf("totp token: %w", err)
	}
	if nonceDigits < 0 || nonceDigits > MaxNonceDigits {
		return nil, fmt.Errorf("totp token: a nonce of %d digits is not within 0 to %d", nonceDigits, MaxNonceDigits)
	}
	t := &TOTP{otp: newKeyedMAC(sha1.New, seed), digits: otpDigits + nonceDigits}
	for _, s := range secrets {
		t.keys = append(t.keys, newKeyedMAC(sha256.New, []byte(s.Reveal())))
	}
	return t, nil
}

// NonceDigits returns the number of digits that a valid token's nonce has.
func (t *TOTP) NonceDigits() int { return t.digits - otpDigits }

// Verify checks password as a token of id at the time now. If it is Valid, the login is allowed only
// if Replay.Use accepts the nonce; otherwise nonce is zero.
func (t *TOTP) Verify(id auth.Identity, password string, now time.Time) (status Status, nonce Nonce) {
	digits, signature, ok := splitTOTP(password)
	if !ok {
		return NotToken, Nonce{}
	}
	counter, current := t.counterOf(digits[:otpDigits], now)
	// The signature is checked even for a wrong one-time password, so that the time
	// taken does not reveal which of the two was wrong.
	signed := t.signed(id, digits, signature)
	switch {
	case !signed || ambiguous(id):
		return Invalid, Nonce{}
	case len(digits) != t.digits:
		return OtherNonce, Nonce{}
	case !current:
		return Expired, Nonce{}
	}
	return Valid, Nonce{ID: nonceID(id, digits), Expires: (counter + otpSteps + 1) * otpStep}
}

// counterOf returns the latest counter within the window around now that has otp as its one-time
// password: if two of them have it, the nonce is kept for the longer time.
func (t *TOTP) counterOf(otp string, now time.Time) (counter int64, ok bool) {
	state := t.otp.begin()
	defer t.otp.end(state)
	current := stepOf(now)
	for c := max(current-otpSteps, 0); c <= current+otpSteps; c++ {
		var text [otpDigits]byte
		state.appendOTP(text[:0], c)
		if equalText(text[:], otp) {
			counter, ok = c, true
		}
	}
	return counter, ok
}

// stepOf returns the counter of RFC 6238 section 4.2 (T0 = 0). Before 1970 it is
// negative, and no one-time password has that counter.
func stepOf(now time.Time) int64 {
	unix := now.Unix()
	if unix < 0 {
		return -otpSteps - 1
	}
	return unix / otpStep
}

// appendOTP appends the HOTP value of counter (RFC 4226 section 5.3) in eight digits.
func (s *macState) appendOTP(dst []byte, counter int64) []byte {
	s.text = binary.BigEndian.AppendUint64(s.text[:0], uint64(counter))
	sum := s.sum()
	offset := sum[len(sum)-1] & 15
	value := binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff % otpModulus
	for unit := uint32(otpModulus / 10); unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+value/unit%10))
	}
	return dst
}

// signed reports whether one of the secrets has signed digits for id.
func (t *TOTP) signed(id auth.Identity, digits, signature string) bool {
	found := false
	for _, k := range t.keys {
		state := k.begin()
		text := state.signature(id, digits)
		if equalText(text[:], signature) {
			found = true
		}
		k.end(state)
	}
	return found
}

// signature returns the signature of one-time password, nonce and JID in base64.
func (s *macState) signature(id auth.Identity, digits string) (text [signatureText]byte) {
	s.text = append(s.text[:0], digits...)
	s.addJID(id)
	base64.StdEncoding.Encode(text[:], s.sum())
	return text
}

// equalText compares in a time that depends on the lengths only.
func equalText(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	different := byte(0)
	for i := range a {
		different |= a[i] ^ b[i]
	}
	return subtle.ConstantTimeByteEq(different, 0) == 1
}

// nonceID is unambiguous because no name holds a NUL.
func nonceID(id auth.Identity, digits string) [sha256.Size]byte {
	text := make([]byte, 0, 256)
	text = append(text, id.User...)
	text = append(text, '@')
	text = append(text, id.Domain...)
	text = append(text, 0)
	text = append(text, digits...)
	return sha256.Sum256(text)
}

// Issue makes a token of id with a random nonce. It is valid once, from now and for another 30
// to 60 seconds. The error wraps auth.ErrMalformed for an identity that no token
// may name; a time before 1970 is refused too.
func (t *TOTP) Issue(id auth.Identity, now time.Time) (auth.Secret, error) {
	if err := signable(id); err != nil {
		return auth.Secret{}, err
	}
	if now.Unix() < 0 {
		return auth.Secret{}, fmt.Errorf("issue token: the clock says %s", now.UTC().Format(time.RFC3339))
	}
	state := t.otp.begin()
	digits := state.appendOTP(make([]byte, 0, t.digits), stepOf(now))
	t.otp.end(state)
	digits = appendRandomDigits(digits, t.NonceDigits())
	state = t.keys[0].begin()
	signature := state.signature(id, string(digits))
	t.keys[0].end(state)
	return auth.NewSecret(string(digits) + " " + string(signature[:])), nil
}

// appendRandomDigits appends n digits, each as likely as any other.
func appendRandomDigits(dst []byte, n int) []byte {
	var random [DefaultNonceDigits]byte
	for end := len(dst) + n; len(dst) < end; {
		_, _ = rand.Read(random[:]) // never fails, see crypto/rand
		for _, b := range random {
			if b < 250 && len(dst) < end { // 250 values are 25 of each digit
				dst = append(dst, '0'+b%10)
			}
		}
	}
	return dst
}

// LooksTOTP reports whether password has the form of a one-time token, so that Verify would not
// return NotToken.
func LooksTOTP(password string) bool {
	_, _, ok := splitTOTP(password)
	return ok
}

// InspectTOTP returns the readable content of a one-time token, which is no more than its form. The
// error wraps ErrFormat.
func InspectTOTP(token string) (Info, error) {
	digits, _, ok := splitTOTP(token)
	if !ok {
		return Info{}, fmt.Errorf("%w: a one-time token is %d to %d digits, a space and %d characters of base64",
			ErrFormat, otpDigits, otpDigits+MaxNonceDigits, signatureText)
	}
	return Info{NonceDigits: len(digits) - otpDigits}, nil
}

// splitTOTP splits a token into the digits of one-time password and nonce, and the
// signature. It takes canonical base64 only.
func splitTOTP(text string) (digits, signature string, ok bool) {
	n := len(text) - signatureText - 1
	if n < otpDigits || n > otpDigits+MaxNonceDigits || text[n] != ' ' || text[len(text)-1] != '=' {
		return "", "", false
	}
	digits, signature = text[:n], text[n+1:]
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return "", "", false
		}
	}
	last := byte(0)
	for i := range signatureText - 1 {
		if last = sextet(signature[i]); last > 63 {
			return "", "", false
		}
	}
	return digits, signature, last&3 == 0 // two bits are left over
}
