package oidc

import (
	"encoding/base64"
	"errors"
	"strings"

	"postern/internal/auth"
	"postern/internal/jsonobject"
)

// minOpaque is the length of the shortest password that may be an opaque token. App passwords of Nextcloud have 29
// letters, and tokens of at least 128 random bits and a prefix have more.
const minOpaque = 32

// LooksJWT reports whether a password has the form of a signed JWT: three parts in base64url, the first of which
// begins as a JSON object does. The last part may be empty, as it is for the algorithm "none".
func LooksJWT(s string) bool {
	if !strings.HasPrefix(s, "eyJ") {
		return false
	}
	head, rest, _ := strings.Cut(s, ".")
	body, signature, ok := strings.Cut(rest, ".")
	return ok && body != "" && allBase64url(head) && allBase64url(body) && allBase64url(signature)
}

// LooksOpaque reports whether a password may be a token that only its provider can read: a token68 of RFC 7235
// that is long enough to be one. Long passwords may look like that, too.
func LooksOpaque(s string) bool {
	if len(s) < minOpaque || len(s) > auth.MaxSecret {
		return false
	}
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if c := s[i]; !base64url[c] && c != '.' && c != '~' && c != '+' && c != '/' {
			return false
		}
	}
	return s != ""
}

// base64url has the letters of base64url. It is a table since a token has a thousand of them.
var base64url = func() (is [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		is[c] = true
	}
	return is
}()

func allBase64url(s string) bool {
	for i := range len(s) {
		if !base64url[s[i]] {
			return false
		}
	}
	return true
}

// ErrNoJWT means that a text is not a JWT, whatever it looks like.
var ErrNoJWT = errors.New("it is not a JWT")

// Unverified is what a JWT says of itself. Its signature is not checked.
type Unverified struct {
	Typ    string // of the header; empty: none
	Claims Claims
	// Payload is the JSON text of the claims.
	Payload []byte
}

// Peek reads a JWT without checking its signature. The error is ErrNoJWT.
func Peek(token string) (Unverified, error) {
	head, rest, _ := strings.Cut(token, ".")
	body, _, ok := strings.Cut(rest, ".")
	header, _, err := members(head)
	claims, payload, err2 := members(body)
	if !ok || err != nil || err2 != nil {
		return Unverified{}, ErrNoJWT
	}
	typ, _ := texted(header["typ"])
	return Unverified{Typ: typ, Claims: claims, Payload: payload}, nil
}

// Read returns what a secret says of itself if it is a JWT, and nil if it is none, whatever it looks like.
func Read(secret string) *Unverified {
	if !LooksJWT(secret) {
		return nil
	}
	if u, err := Peek(secret); err == nil {
		return &u
	}
	return nil
}

// members reads a part of a JWT, which is a JSON object. Letter case counts in the names of members.
func members(part string) (c Claims, data []byte, err error) {
	if data, err = base64.RawURLEncoding.DecodeString(part); err != nil {
		return nil, nil, ErrNoJWT
	}
	c, err = ParseClaims(data)
	return c, data, err
}

// ParseClaims reads a JSON object of claims. The error is ErrNoJWT.
func ParseClaims(data []byte) (Claims, error) {
	c, err := jsonobject.Split(data)
	if err != nil {
		return nil, ErrNoJWT
	}
	return c, nil
}
