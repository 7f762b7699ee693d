package apppassword

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"

	"postern/internal/auth"
)

const (
	alphabet = "abcdefghjkmnpqrstuvwxyz" // 23 letters, a prime number: see checkLetter
	letters  = 28                        // of a secret, with its check letter
	group    = 4                         // letters between hyphens
)

// maxText bounds what Parse looks at: a secret with three separators after each letter.
const maxText = letters * (1 + 3*3)

// Secret is an app password without its separators, in lower case. It is of the form: see Parse.
type Secret struct{ text [letters]byte }

// indexes has the place of each letter in the alphabet, of either case, or -1.
var indexes = func() (t [256]int8) {
	for i := range t {
		t[i] = int8(strings.IndexByte(alphabet, byte(i)|0x20))
		if i < 'A' || i > 'z' || i > 'Z' && i < 'a' {
			t[i] = -1
		}
	}
	return t
}()

// NewSecret draws a secret.
func NewSecret() Secret {
	var s Secret
	for i := 0; i < letters-1; {
		var random [2 * letters]byte
		_, _ = rand.Read(random[:]) // never fails, see crypto/rand
		for _, b := range random {
			if b &= 31; int(b) < len(alphabet) && i < letters-1 {
				s.text[i] = alphabet[b]
				i++
			}
		}
	}
	s.text[letters-1] = s.checkLetter()
	return s
}

// Parse reads a secret as a person types it. It is false for a text that is not of the form.
func Parse(text string) (s Secret, ok bool) {
	if len(text) < letters || len(text) > maxText {
		return s, false
	}
	n := 0
	for i := 0; i < len(text); i++ {
		place := indexes[text[i]]
		if place < 0 {
			skip := separator(text[i:])
			if skip == 0 {
				return Secret{}, false
			}
			i += skip - 1
			continue
		}
		if n == letters {
			return Secret{}, false
		}
		s.text[n] = alphabet[place]
		n++
	}
	if n != letters || s.text[letters-1] != s.checkLetter() {
		return Secret{}, false
	}
	return s, true
}

// separator returns the length of the separator at the start of a text, or 0. Phones write long dashes
// and spaces that do not break in place of those typed.
func separator(text string) int {
	switch text[0] {
	case ' ', '-', '.', '_':
		return 1
	case 0xc2:
		if strings.HasPrefix(text, "\u00a0") {
			return 2
		}
	case 0xe2:
		for _, s := range [...]string{"\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u202f"} {
			if strings.HasPrefix(text, s) {
				return len(s)
			}
		}
	}
	return 0
}

// checkLetter is the sum of the letters, each times another power of 5, modulo 23. 5 generates all numbers
// but 0 there, so no weight is 0, and those of neighbours differ.
func (s *Secret) checkLetter() byte {
	sum, weight := 0, 1
	for _, c := range s.text[:letters-1] {
		weight = weight * 5 % len(alphabet)
		sum += weight * int(indexes[c])
	}
	return alphabet[sum%len(alphabet)]
}

// Show returns the secret as it is shown once to its owner, in groups.
func (s Secret) Show() auth.Secret {
	var b strings.Builder
	for i := 0; i < letters; i += group {
		if i > 0 {
			b.WriteByte('-')
		}
		b.Write(s.text[i : i+group])
	}
	return auth.NewSecret(b.String())
}

// Format implements fmt.Formatter for every verb: a secret is not printed.
func (Secret) Format(f fmt.State, verb rune) { auth.Secret{}.Format(f, verb) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return auth.Secret{}.LogValue() }
