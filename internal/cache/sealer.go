package cache

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"postern/internal/auth"
)

// SealKeySize is the length of a Sealer's key in bytes.
const SealKeySize = 32

const (
	sealMark   = "hmac:"
	sealIDSize = 8 // bytes of a key's identity
)

// sealPrefixLen is the length of what a sealed verifier begins with: mark, identity of the key, colon.
const sealPrefixLen = len(sealMark) + 2*sealIDSize + 1

// Sealer makes verifiers at rest that take no work: an HMAC-SHA-256 under a key that is not in the store.
// The text names the key by its identity, so that a verifier under a key that is lost is recognised
// and not compared. A nil Sealer makes none. It is safe for concurrent use.
type Sealer struct {
	key    auth.Secret
	prefix string
}

// NewSealer returns the Sealer of a key of SealKeySize bytes; nil for an empty one.
func NewSealer(key auth.Secret) *Sealer {
	if key.Empty() {
		return nil
	}
	m := hmac.New(sha256.New, []byte(key.Reveal()))
	m.Write([]byte("postern cache key"))
	return &Sealer{key, sealMark + hex.EncodeToString(m.Sum(nil)[:sealIDSize]) + ":"}
}

// seal returns the verifier of an account's secret. Each part is preceded by its length, so that
// different parts never have the same text.
func (s *Sealer) seal(domain string, by auth.AuthorityID, account string, secret auth.Secret) string {
	m := hmac.New(sha256.New, []byte(s.key.Reveal()))
	b := make([]byte, 0, 256)
	for _, part := range [...]string{string(by[:]), domain, account, secret.Reveal()} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	m.Write(b)
	clear(b)
	return s.prefix + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// made reports whether a verifier was made under this key.
func (s *Sealer) made(text string) bool { return s != nil && strings.HasPrefix(text, s.prefix) }

// sealed reports whether the text of a verifier is a Sealer's, under whatever key, and not a hash.
func sealed(text string) bool { return strings.HasPrefix(text, sealMark) }

// checkSealed reports whether a sealed verifier is well formed.
func checkSealed(text string) bool {
	if !sealed(text) || len(text) < sealPrefixLen || text[sealPrefixLen-1] != ':' {
		return false
	}
	id, err := hex.DecodeString(text[len(sealMark) : sealPrefixLen-1])
	sum, err2 := base64.RawURLEncoding.Strict().DecodeString(text[sealPrefixLen:])
	return err == nil && err2 == nil && len(id) == sealIDSize && len(sum) == sha256.Size
}
