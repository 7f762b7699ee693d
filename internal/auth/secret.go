package auth

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is the only output of a Secret.
const redacted = "[redacted]"

// Secret is a password, token or key. Its text is behind a pointer: printing a Secret, or any
// struct with one in a field of any name, shows an address or the word "[redacted]" under every
// verb, in slog, JSON and dead letters.
// The zero Secret is empty. A Secret is immutable and safe for concurrent use.
type Secret struct{ text *string }

// NewSecret wraps text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the secret's text. The caller must not log or store it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no secret.
func (s Secret) Empty() bool { return s.text == nil }

// Len is the secret's length in bytes.
func (s Secret) Len() int { return len(s.Reveal()) }

// Format implements fmt.Formatter for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
