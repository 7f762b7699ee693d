package limit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// Seed makes the numbers by which limits know accounts and networks. It is secret, so that names with
// the same number cannot be made up. Tables that go to another process take their Seed with them.
type Seed [sha256.BlockSize / 2]byte

// NewSeed draws a seed.
func NewSeed() (s Seed) {
	_, _ = rand.Read(s[:]) // never fails, see crypto/rand
	return s
}

// Sum returns the number of a name; never 0.
func (s Seed) Sum(name []byte) uint64 {
	var buf [128]byte
	sum := sha256.Sum256(append(append(buf[:0], s[:]...), name...))
	return max(binary.LittleEndian.Uint64(sum[:]), 1)
}
