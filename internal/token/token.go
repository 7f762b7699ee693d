// Package token verifies and issues the tokens that stand in for a password: JSXC's
// time-limited token and the one-time token of Prosody's mod_auth_token (PROTOCOLS
// section 5). It is pure: the time is passed in, nothing is stored but in Replay, and
// no backend is asked.
//
// Both tokens sign the text user@domain, so an '@' in either name would let one
// signature serve two identities; such names are refused here too, although
// auth.NewIdentity does not let them through.
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

// Status is what Verify makes of a password. Only Valid lets a user in: anything else
// means that the password is to be tried as a password.
type Status uint8

const (
	// NotToken: the text is no token of this kind.
	NotToken Status = iota
	// Valid: signed for this identity, and its time has not run out.
	Valid
	// Expired: signed for this identity, but too old. A one-time token has no readable
	// time, so an old one is Invalid.
	Expired
	// Invalid: the form of a token, but not one of ours for this identity and time.
	Invalid
)

// String returns the status's word for logs.
func (s Status) String() string {
	switch s {
	case Valid:
		return "valid"
	case Expired:
		return "expired"
	case Invalid:
		return "invalid"
	}
	return "not a token"
}

// ErrSecret is wrapped by the errors about a secret or seed that cannot be used.
var ErrSecret = errors.New("unusable token secret")

// ErrFormat is wrapped by the errors about a text that is no token.
var ErrFormat = errors.New("not a token of this kind")

// Info is what a token tells without its secret.
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

// checkSecrets refuses a list without a secret and an empty secret: anyone can sign
// with that.
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

// keyedMAC is an HMAC with its key worked in, ready to be used by many goroutines at
// once. Keying costs more than a signature, hence the pool.
type keyedMAC struct{ pool sync.Pool }

func newKeyedMAC(newHash func() hash.Hash, key []byte) *keyedMAC {
	m := &keyedMAC{}
	m.pool.New = func() any { return &macState{hash: hmac.New(newHash, key)} }
	return m
}

// macState is one computation. Its buffers are kept for the next one, so that a
// verification allocates nothing.
type macState struct {
	hash hash.Hash
	text []byte // what is to be signed
	out  []byte
}

// begin returns a state whose text is empty. It must be given back with end.
func (m *keyedMAC) begin() *macState {
	s := m.pool.Get().(*macState)
	s.text, s.out = s.text[:0], s.out[:0]
	return s
}

// end gives s back. The signature is wiped: it is what a token is worth.
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
