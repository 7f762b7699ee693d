// Package passhash hashes passwords for the disk cache and the users file: bcrypt, with a
// pre-hash for passwords longer than the 72 bytes that bcrypt reads. Without it, two long
// passwords with the same beginning would be one password. bcrypt is slow by design, so that a
// stolen store is hard to use; its cost is a setting.
package passhash

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Limits of a bcrypt cost. A stored hash above MaxCost is refused rather than
// computed: cost 31 would run for days.
const (
	DefaultCost = 12
	MinCost     = 4
	MaxCost     = 16
)

// longPrefix marks the hash of a password of more than 72 bytes: bcrypt of the base64 of its
// SHA-256.
const longPrefix = "sha256:"

// maxPlain is what bcrypt reads of a password.
const maxPlain = 72

// hashLen is the length of a bcrypt hash in its text form.
const hashLen = 60

// ErrHash means that a stored hash is not one that this package accepts.
var ErrHash = errors.New("not a usable bcrypt hash")

// New hashes password at the given cost, which costs CPU time by design (about a
// quarter of a second at cost 12). It refuses a password that Match never accepts and
// a cost outside MinCost and MaxCost.
func New(password string, cost int) (string, error) {
	switch {
	case password == "":
		return "", errors.New("an empty password cannot be hashed")
	case strings.IndexByte(password, 0) >= 0:
		return "", errors.New("a password with NUL cannot be hashed: no login with it would match")
	}
	if cost < MinCost || cost > MaxCost {
		return "", fmt.Errorf("bcrypt cost %d is out of range: use %d to %d", cost, MinCost, MaxCost)
	}
	prefix := ""
	if len(password) > maxPlain {
		prefix, password = longPrefix, shorten(password)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return prefix + string(hash), nil
}

// Match reports whether hash is one of password. Hashes of other
// programs ($2a$, $2b$, $2y$) are accepted. It is false, without any computation,
// for an empty password, one with a NUL (C implementations stop there), and a hash
// that Check refuses.
func Match(hash, password string) bool {
	if password == "" || strings.IndexByte(password, 0) >= 0 || Check(hash) != nil {
		return false
	}
	plain, long := strings.CutPrefix(hash, longPrefix)
	if long != (len(password) > maxPlain) {
		return false
	}
	if long {
		password = shorten(password)
	}
	return bcrypt.CompareHashAndPassword([]byte(plain), []byte(password)) == nil
}

// SameLength returns hash as if it were of a password as long as this one. Match then always computes,
// at the same cost, where its speed would otherwise reveal that the lengths differ. If the result
// is not hash itself, the outcome of Match is meaningless.
func SameLength(hash, password string) string {
	plain := strings.TrimPrefix(hash, longPrefix)
	if len(password) > maxPlain {
		return longPrefix + plain
	}
	return plain
}

// Cost returns the two digits of a well-formed hash that say its bcrypt cost.
func Cost(hash string) string { return strings.TrimPrefix(hash, longPrefix)[4:6] }

// Rounds returns the rounds of a comparison with a hash, to which the time that it takes is proportional; 0
// for a hash that Check refuses.
func Rounds(hash string) int {
	if Check(hash) != nil {
		return 0
	}
	digits := Cost(hash)
	return 1 << ((digits[0]-'0')*10 + digits[1] - '0')
}

// Check reports whether hash is well formed and of a cost that may be computed.
// x/crypto's own check accepts $2x$ (a faulty implementation's mark), a cost of "+4" and
// any byte after the cost, and ignores what follows the 60th character, so it is not
// enough. The error wraps ErrHash.
func Check(hash string) error {
	hash = strings.TrimPrefix(hash, longPrefix)
	if len(hash) != hashLen {
		return fmt.Errorf("%w: length is not %d", ErrHash, hashLen)
	}
	switch hash[:4] {
	case "$2a$", "$2b$", "$2y$":
	default:
		return fmt.Errorf("%w: unknown version", ErrHash)
	}
	tens, ones := hash[4]-'0', hash[5]-'0'
	if tens > 9 || ones > 9 || hash[6] != '$' {
		return fmt.Errorf("%w: unreadable cost", ErrHash)
	}
	cost := int(tens)*10 + int(ones)
	if cost < MinCost || cost > MaxCost {
		return fmt.Errorf("%w: cost %d is not within %d to %d", ErrHash, cost, MinCost, MaxCost)
	}
	for _, c := range []byte(hash[7:]) {
		alnum := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !alnum && c != '.' && c != '/' {
			return fmt.Errorf("%w: foreign character", ErrHash)
		}
	}
	return nil
}

func shorten(password string) string {
	sum := sha256.Sum256([]byte(password))
	return base64.StdEncoding.EncodeToString(sum[:])
}
