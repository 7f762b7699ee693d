package cache

import (
	"fmt"

	"postern/internal/auth/passhash"
	"postern/internal/unixtime"
)

// SavedUser is the value in which a User goes to a successor of the process, in memory. It has what a
// record on disk must not have: the Keys, and refusals.
type SavedUser struct {
	Verifiers []SavedVerifier
	Refusals  []SavedRefusal
	Exists    Existence
	Alias     Alias
}

// SavedVerifier is a Verifier.
type SavedVerifier struct {
	Verifier
	Graced unixtime.Time
}

// SavedRefusal is a Refusal.
type SavedRefusal struct {
	Name
	Key      Key
	At       unixtime.Time
	Standing uint8
}

// Save returns u as its successor is to have it. What a comparison under way may remove is left out.
// Refusals keep their order.
func (u *User) Save() SavedUser {
	s := SavedUser{Exists: u.Exists, Alias: u.Alias}
	for _, v := range u.certain() {
		s.Verifiers = append(s.Verifiers, SavedVerifier{v, v.graced})
	}
	for _, f := range u.Refusals {
		s.Refusals = append(s.Refusals, SavedRefusal{f.Name, f.Key, f.At, uint8(f.standing)})
	}
	return s
}

// User is the inverse of Save. The error wraps ErrRecord.
func (s *SavedUser) User() (*User, error) {
	if len(s.Verifiers) > maxRecordVerifiers {
		return nil, fmt.Errorf("%w: too many verifiers", ErrRecord)
	}
	for i := range s.Verifiers {
		if v := &s.Verifiers[i]; v.Hash != "" && !checkSealed(v.Hash) && passhash.Check(v.Hash) != nil || v.Hash == "" && v.Key == (Key{}) {
			return nil, fmt.Errorf("%w: bad verifier", ErrRecord)
		}
	}
	for _, f := range s.Refusals {
		if f.Key == (Key{}) || f.Standing > uint8(suspected) {
			return nil, fmt.Errorf("%w: bad refusal", ErrRecord)
		}
	}
	return s.user(), nil
}

func (s *SavedUser) user() *User {
	u := &User{Exists: s.Exists, Alias: s.Alias}
	for _, v := range s.Verifiers {
		v.graced = v.Graced
		u.Verifiers = append(u.Verifiers, v.Verifier)
	}
	for _, f := range s.Refusals {
		u.refusals++
		u.Refusals = append(u.Refusals, Refusal{Name: f.Name, Key: f.Key, At: f.At, seq: u.refusals, standing: standing(f.Standing)})
	}
	return u
}
