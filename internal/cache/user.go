// Package cache decides what may be answered from memory of earlier answers: the rules
// of DESIGN, "The cache". It is pure: the clock is passed in, and hashing and asking are
// the caller's work.
package cache

import (
	"slices"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// Rules are a domain's lifetimes.
type Rules struct {
	Off      bool // storage none: nothing is remembered
	Hashed   bool // storage disk: verifiers need a password hash to be kept
	Query    time.Duration
	Verify   time.Duration
	Outage   time.Duration
	Refused  time.Duration
	Exists   time.Duration
	Absent   time.Duration
	Secrets  int // verifiers per user
	Refusals int // remembered refused secrets per user
}

// Verifier is a secret that the backend has accepted.
type Verifier struct {
	Hash     string        // passhash text; empty while it is not hashed
	Key      Key           // zero while the secret has not been seen by this process
	First    unixtime.Time // first verified by the backend
	Verified unixtime.Time // last verified by the backend
	Used     unixtime.Time // last used
	Stale    bool          // must be verified again at its next use
	// Suspect: since it was last accepted, one backend has refused it and another could not tell.
	Suspect bool
}

// fresh reports whether a matching secret may be allowed without asking.
func (v *Verifier) fresh(r *Rules, now unixtime.Time) bool {
	return !v.Stale && v.Used.Within(r.Query, now) && v.Verified.Within(r.Verify, now)
}

// grace reports whether a matching secret may be allowed while the backend cannot answer.
func (v *Verifier) grace(r *Rules, now unixtime.Time) bool {
	return !v.Suspect && v.Verified.Within(r.Outage, now)
}

// suspect keeps a verifier from serving until the backend accepts its secret again, and reports
// whether that changes it.
func (v *Verifier) suspect() (changed bool) {
	changed = !v.Suspect || !v.Stale
	v.Suspect, v.Stale = true, true
	return changed
}

// Existence is what the backend last said to isuser.
type Existence struct {
	Known bool
	Yes   bool
	At    unixtime.Time
}

// User is all that is remembered of one user of one domain. The zero value remembers
// nothing. It is owned by one goroutine.
type User struct {
	Verifiers []Verifier
	Refusals  []Refusal
	Exists    Existence

	refused uint64 // so many refusals came since the user is in memory
	lost    uint64 // the highest number of one that is forgotten
}

// Disposable reports whether forgetting the user would lose nothing but refusals: such
// users must not push others out of memory.
func (u *User) Disposable() bool { return len(u.Verifiers) == 0 && !(u.Exists.Known && u.Exists.Yes) }

// Forget drops everything, as after a change of password.
func (u *User) Forget() { *u = User{refused: u.refused, lost: u.refused} }

// keyed returns the verifier whose secret is key.
func (u *User) keyed(key Key) *Verifier {
	for i := range u.Verifiers {
		if u.Verifiers[i].Key == key {
			return &u.Verifiers[i]
		}
	}
	return nil
}

// MissReason says for an administrator why Hot had no answer.
func (u *User) MissReason(key Key) string {
	if key != (Key{}) && u.keyed(key) != nil {
		return "stale: in memory, but to be verified again"
	}
	return "not in memory"
}

func (u *User) hashed(hash string) int {
	for i := range u.Verifiers {
		if u.Verifiers[i].Hash == hash {
			return i
		}
	}
	return -1
}

func (u *User) drop(i int) { u.Verifiers = append(u.Verifiers[:i], u.Verifiers[i+1:]...) }

// dropKeyed removes the verifier whose secret is key and reports whether there was one.
func (u *User) dropKeyed(key Key) bool {
	for i := range u.Verifiers {
		if u.Verifiers[i].Key == key {
			u.drop(i)
			return true
		}
	}
	return false
}

// add remembers a new secret and makes room for it by forgetting the one that was used
// longest ago.
func (u *User) add(v Verifier, r *Rules) {
	for len(u.Verifiers) >= r.Secrets {
		oldest := 0
		for i := range u.Verifiers {
			if u.Verifiers[i].Used < u.Verifiers[oldest].Used {
				oldest = i
			}
		}
		u.drop(oldest)
	}
	u.Verifiers = append(u.Verifiers, v)
}

// staleOthers makes every verifier but key's ask the backend at its next use.
func (u *User) staleOthers(key Key) {
	for i := range u.Verifiers {
		if u.Verifiers[i].Key != key {
			u.Verifiers[i].Stale = true
		}
	}
}

// IsUser answers isuser from memory. ok is false when the backend must be asked.
func (u *User) IsUser(r *Rules, now unixtime.Time) (a auth.Answer, ok bool) {
	if r.Off || !u.Exists.Known {
		return a, false
	}
	switch {
	case u.Exists.Yes && u.Exists.At.Within(r.Exists, now):
		return auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot}, true
	case !u.Exists.Yes && u.Exists.At.Within(r.Absent, now):
		return auth.Answer{Verdict: auth.Deny, Source: auth.SourceHot}, true
	}
	return a, false
}

// IsUserGrace answers isuser while the backend cannot: yes for a user that was there
// within the outage lifetime, since mail must not bounce, and never no.
func (u *User) IsUserGrace(r *Rules, now unixtime.Time) (a auth.Answer, ok bool) {
	if r.Off {
		return a, false
	}
	yes := auth.Answer{Verdict: auth.Allow, Source: auth.SourceGrace}
	if u.Exists.Known {
		return yes, u.Exists.Yes && u.Exists.At.Within(r.Outage, now)
	}
	for i := range u.Verifiers {
		// Also by one that is suspect: whatever his password is, the user was there.
		if u.Verifiers[i].Verified.Within(r.Outage, now) {
			return yes, true
		}
	}
	return a, false
}

// SetExists remembers the backend's answer to isuser and reports whether the record
// should be written: a "no" is short-lived and stays in memory, unless it takes back a
// "yes".
func (u *User) SetExists(yes bool, r *Rules, now unixtime.Time) (changed bool) {
	if r.Off {
		return false
	}
	was := u.Exists
	u.Exists = Existence{Known: true, Yes: yes, At: now}
	return yes || was.Known && was.Yes
}

// Clone returns a copy that shares nothing with u.
func (u *User) Clone() User {
	c := *u
	c.Verifiers = slices.Clone(u.Verifiers)
	c.Refusals = slices.Clone(u.Refusals)
	return c
}
