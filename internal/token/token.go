// Package token verifies and issues tokens that are used in place of a password: JSXC's
// time-limited token and the one-time token of Prosody's mod_auth_token. It is pure: the time is
// passed in, nothing is stored except in Replay, and no backend is asked. A text that is not a
// token of the exact form is a password, to be tried as one.
//
// # JSXC
//
// Nextcloud's JSXC app issues a token to a browser session that is logged in, so the browser can
// log in to the XMPP server without the password. It is 23 bytes, as 31 letters of base64 in
// which O, I and l are replaced by -, $ and %: a version byte (0), the first 16 bytes of
// HMAC-SHA256(secret, version | key id | expiry | user@domain), the key id (the first two bytes
// of SHA-256(secret)), and the expiry as a 32-bit big-endian Unix time. It may be used any number
// of times until then.
//
// xcauth, the previous implementation, accepts more spellings than the issuer writes, compares no
// key id and verifies no token of a non-ASCII address. Here exactly the issuer's form is
// accepted, and the address is signed as bytes.
//
// # mod_auth_token
//
// A token is a one-time password (RFC 6238: SHA-1, 30 seconds, 8 digits), a nonce of digits, a
// space and base64(HMAC-SHA256(secret, password | nonce | user@host)). It is valid once, for one
// step before and after its own. Replay keeps the used ones.
//
// The signed text has no separators, so that the last digits of a nonce could be read as the first
// ones of the user: a token of 1bob as one of bob. So the nonces of a domain have one length, 32
// digits if nothing else is configured, as the issuer of mod_auth_token writes them.
//
// Both tokens sign the text user@domain, so an '@' in either name would make one signature valid
// for two identities. Such names are refused here too, although auth.NewIdentity does not accept
// them.
package token

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"

	"postern/internal/auth"
)

// Status is the result of Verify. Only Valid is a login. NotToken and Invalid are to be tried as a
// password. The others are signed with the domain's secret, so they are no password and are refused
// at once: they must not count as a guess.
type Status uint8

const (
	// NotToken: the text is not a token of this kind.
	NotToken Status = iota
	// Valid: signed for this identity, and its time has not run out.
	Valid
	// Expired: signed for this identity, but too old. A one-time token does not contain its time:
	// it is Expired whenever its one-time password is not one of now.
	Expired
	// OtherNonce: signed for this identity, but the nonce does not have the configured number of
	// digits. It may be a token of another user.
	OtherNonce
	// Invalid: the form of a token, but not signed for this identity.
	Invalid
)

// String returns the status's word for logs.
func (s Status) String() string {
	switch s {
	case Valid:
		return "valid"
	case Expired:
		return "expired"
	case OtherNonce:
		return "nonce of another length"
	case Invalid:
		return "invalid"
	}
	return "not a token"
}

// ErrSecret is wrapped by the errors about a secret or seed that cannot be used.
var ErrSecret = errors.New("unusable token secret")

// ErrFormat is wrapped by the errors about a text that is not a token.
var ErrFormat = errors.New("not a token of this kind")

// Info is the content of a token that can be read without its secret.
type Info struct {
	Version     uint8     // jsxc: the layout; 0 is the only one known
	KeyID       [2]byte   // jsxc: which secret signed it, see KeyID
	Expires     time.Time // jsxc: the last second of its life
	NonceDigits int       // totp: digits of its nonce
}

// signable reports why no token may be issued for id, or nil.
func signable(id auth.Identity) error {
	if err := auth.CheckUser(id.User); err != nil {
		return fmt.Errorf("issue token: %w", err)
	}
	if err := auth.CheckDomain(id.Domain); err != nil {
		return fmt.Errorf("issue token: %w", err)
	}
	return nil
}

// ambiguous reports whether the signed text could mean another identity.
func ambiguous(id auth.Identity) bool {
	return id.User == "" || id.Domain == "" ||
		strings.IndexByte(id.User, '@') >= 0 || strings.IndexByte(id.Domain, '@') >= 0
}

// checkSecrets refuses an empty list and an empty secret, which is not secret.
func checkSecrets(secrets []auth.Secret) error {
	if len(secrets) == 0 {
		return fmt.Errorf("%w: none is given", ErrSecret)
	}
	for i, s := range secrets {
		if s.Empty() {
			return fmt.Errorf("%w: number %d is empty", ErrSecret, i+1)
		}
	}
	return nil
}

// keyedMAC is an HMAC with a key, for many goroutines at once. Keying costs more than a
// signature, hence the pool.
type keyedMAC struct{ pool sync.Pool }

func newKeyedMAC(newHash func() hash.Hash, key []byte) *keyedMAC {
	m := &keyedMAC{}
	m.pool.New = func() any { return &macState{hash: hmac.New(newHash, key)} }
	return m
}

// macState is one computation. Its buffers are reused, so that a verification does not
// allocate.
type macState struct {
	hash hash.Hash
	text []byte // what is to be signed
	out  []byte
}

// begin returns a state with an empty text. It must be given back with end.
func (m *keyedMAC) begin() *macState {
	s := m.pool.Get().(*macState)
	s.text, s.out = s.text[:0], s.out[:0]
	return s
}

// end gives s back and wipes the signature, which is as good as a token.
func (m *keyedMAC) end(s *macState) {
	clear(s.out[:cap(s.out)])
	m.pool.Put(s)
}

// sum returns the signature of the text. It is part of s.
func (s *macState) sum() []byte {
	s.hash.Reset()
	s.hash.Write(s.text)
	s.out = s.hash.Sum(s.out[:0])
	return s.out
}

// addJID appends the bare JID of id to the text.
func (s *macState) addJID(id auth.Identity) {
	s.text = append(s.text, id.User...)
	s.text = append(s.text, '@')
	s.text = append(s.text, id.Domain...)
}
