package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"log/slog"
	"sync"

	"postern/internal/auth"
)

// Key identifies one secret of one identity within this process and those that follow it by an orderly
// restart: a MAC under a random key that is never stored, so that a copy of the memory tier is useless
// elsewhere. The zero Key means no secret.
type Key [sha256.Size]byte

// Fingerprint is a part of the key, for tables in which 64 bits distinguish secrets well enough,
// such as those of the limits.
func (k Key) Fingerprint() uint64 { return binary.LittleEndian.Uint64(k[:]) }

// KeyerSecret is the key of a Keyer. It prints as nothing.
type KeyerSecret [sha256.BlockSize]byte

// Format implements fmt.Formatter.
func (KeyerSecret) Format(fmt.State, rune) {}

// LogValue implements slog.LogValuer.
func (KeyerSecret) LogValue() slog.Value { return slog.Value{} }

// Keyer makes Keys. It is safe for concurrent use.
type Keyer struct {
	secret KeyerSecret
	macs   sync.Pool
}

// NewKeyer draws a key.
func NewKeyer() *Keyer {
	var secret KeyerSecret
	_, _ = rand.Read(secret[:]) // never fails, see crypto/rand
	return KeyerOf(secret)
}

// KeyerOf returns the Keyer of a former process.
func KeyerOf(secret KeyerSecret) *Keyer {
	return &Keyer{secret: secret, macs: sync.Pool{New: func() any {
		return &keying{mac: hmac.New(sha256.New, secret[:]), buf: make([]byte, 0, 256)}
	}}}
}

// Secret returns the key for the process's successor.
func (k *Keyer) Secret() KeyerSecret { return k.secret }

type keying struct {
	mac hash.Hash
	buf []byte
}

// Key returns the key of a question: of its operation, identity and secret. Names are preceded by
// their lengths, so that different questions never have the same text.
func (k *Keyer) Key(op auth.Operation, id auth.Identity, secret auth.Secret) (key Key) {
	m := k.macs.Get().(*keying)
	text := secret.Reveal()
	b := append(m.buf[:0], byte(op))
	b = binary.BigEndian.AppendUint16(b, uint16(len(id.Domain)))
	b = append(b, id.Domain...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(id.User)))
	b = append(b, id.User...)
	b = append(b, text...)
	m.mac.Reset()
	m.mac.Write(b)
	clear(b[len(b)-len(text):])
	copy(key[:], m.mac.Sum(b[:0]))
	m.buf = b[:0]
	k.macs.Put(m)
	return key
}
