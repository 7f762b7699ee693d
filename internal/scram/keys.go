package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/xdg-go/stringprep"

	"postern/internal/auth"
)

// Iterations is the count of all keys that are made.
const Iterations = 10000

// ErrKeys means that a text has no keys that can be used.
var ErrKeys = errors.New("unusable SCRAM keys")

// Hash is a hash function of SCRAM.
type Hash uint8

// The hash functions.
const (
	SHA1 Hash = iota
	SHA256
)

// Hashes is the number of hash functions. Keys have all of them.
const Hashes = 2

var hashNames = [Hashes]string{"SHA-1", "SHA-256"}

// String returns the hash's name as the mechanisms have it.
func (h Hash) String() string { return hashNames[h] }

func (h Hash) new() hash.Hash {
	if h == SHA1 {
		return sha1.New()
	}
	return sha256.New()
}

func (h Hash) size() int {
	if h == SHA1 {
		return sha1.Size
	}
	return sha256.Size
}

func (h Hash) sum(text []byte) []byte {
	d := h.new()
	d.Write(text)
	return d.Sum(nil)
}

func (h Hash) hmac(key []byte, text string) []byte {
	m := hmac.New(h.new, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// SeedSize is the length of a seed in bytes.
const SeedSize = 32

// Seed makes the salts of a data directory.
type Seed [SeedSize]byte

// Salt is the salt of an account.
type Salt [16]byte

// Salt returns the salt of an account, whether it exists or not. The domain is in canonical form; letter case of
// the user does not count.
func (s *Seed) Salt(id auth.Identity) (salt Salt) {
	m := hmac.New(sha256.New, s[:])
	m.Write([]byte("postern scram salt\x00"))
	m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(id.Domain))))
	m.Write([]byte(id.Domain))
	m.Write([]byte(auth.FoldUser(id.User)))
	copy(salt[:], m.Sum(nil))
	return salt
}

// Verifier is what is kept of a secret for one hash.
type Verifier struct{ stored, server []byte }

// Keys is what is kept of a secret. They are not printed.
type Keys struct {
	iterations int
	salt       Salt
	verifiers  [Hashes]Verifier
}

// Format implements fmt.Formatter for every verb: keys are not printed.
func (*Keys) Format(f fmt.State, verb rune) { auth.Secret{}.Format(f, verb) }

// Derive makes the keys of a secret. It takes some milliseconds. The error is that of a Go that allows
// no such hash (FIPS 140).
func Derive(secret string, salt Salt) (*Keys, error) {
	k := &Keys{iterations: Iterations, salt: salt}
	for h := range Hash(Hashes) {
		var err error
		if k.verifiers[h], err = derive(h, secret, salt[:], Iterations); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func derive(h Hash, secret string, salt []byte, iterations int) (v Verifier, err error) {
	salted, err := pbkdf2.Key(h.new, prepare(secret), salt, iterations, h.size())
	if err != nil {
		return v, fmt.Errorf("SCRAM keys: %w", err)
	}
	return Verifier{stored: h.sum(h.hmac(salted, "Client Key")), server: h.hmac(salted, "Server Key")}, nil
}

// prepare applies SASLprep, as clients do. A text that it does not permit stays as it is.
func prepare(secret string) string {
	prepared, err := stringprep.SASLprep.Prepare(secret)
	if err != nil || prepared == "" {
		return secret
	}
	return prepared
}

// Fits reports whether the keys are for a salt and have the iteration count in use. Other keys cannot be
// compared with a proof.
func (k *Keys) Fits(salt Salt) bool {
	return k != nil && k.iterations == Iterations && k.salt == salt
}

// Text returns the form in which keys are stored: iteration count, salt, and for each hash StoredKey and
// ServerKey, separated by commas, bytes in base64.
func (k *Keys) Text() string {
	var b strings.Builder
	b.WriteString(strconv.Itoa(k.iterations))
	write := func(bytes []byte) {
		b.WriteByte(',')
		b.WriteString(base64.StdEncoding.EncodeToString(bytes))
	}
	write(k.salt[:])
	for _, v := range k.verifiers {
		write(v.stored)
		write(v.server)
	}
	return b.String()
}

// ParseKeys reads what Text returns. The error wraps ErrKeys.
func ParseKeys(text string) (*Keys, error) {
	fields := strings.Split(text, ",")
	if len(fields) != 2+2*Hashes {
		return nil, fmt.Errorf("%w: there are %d fields", ErrKeys, len(fields))
	}
	k := new(Keys)
	var err error
	if k.iterations, err = strconv.Atoi(fields[0]); err != nil || k.iterations < 1 {
		return nil, fmt.Errorf("%w: no iteration count", ErrKeys)
	}
	salt, ok := decode(fields[1], len(k.salt))
	copy(k.salt[:], salt)
	for h := range Hash(Hashes) {
		stored, storedOK := decode(fields[2+2*h], h.size())
		server, serverOK := decode(fields[3+2*h], h.size())
		k.verifiers[h] = Verifier{stored, server}
		ok = ok && storedOK && serverOK
	}
	if !ok {
		return nil, fmt.Errorf("%w: salt or key is damaged", ErrKeys)
	}
	return k, nil
}

func decode(text string, size int) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil && len(b) == size
}
