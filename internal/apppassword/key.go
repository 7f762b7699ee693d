package apppassword

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"

	"postern/internal/auth"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// KeyID is the identity of a key in records.
type KeyID [8]byte

// Key makes the MACs of secrets. It is safe for concurrent use.
type Key struct {
	id   KeyID
	macs sync.Pool
}

// NewKey returns the Key of KeySize bytes.
func NewKey(key auth.Secret) *Key {
	secret := []byte(key.Reveal())
	k := &Key{macs: sync.Pool{New: func() any {
		return &keying{mac: hmac.New(sha256.New, secret), buf: make([]byte, 0, 256)}
	}}}
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("postern app password key"))
	copy(k.id[:], m.Sum(nil))
	return k
}

// MAC stands for a secret of an account in a record.
type MAC [sha256.Size]byte

type keying struct {
	mac hash.Hash
	buf []byte
}

// mac returns the MAC of an account's secret. Each part is preceded by its length, so that different
// parts never have the same text.
func (k *Key) mac(domain, account string, s Secret) (sum MAC) {
	m := k.macs.Get().(*keying)
	b := m.buf[:0]
	for _, part := range [...]string{domain, account} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	b = binary.BigEndian.AppendUint32(b, letters)
	b = append(b, s.text[:]...)
	m.mac.Reset()
	m.mac.Write(b)
	clear(b[len(b)-letters:])
	copy(sum[:], m.mac.Sum(b[:0]))
	m.buf = b[:0]
	k.macs.Put(m)
	return sum
}
