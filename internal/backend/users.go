package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
)

// UsersOptions configure the backend of a users file.
type UsersOptions struct {
	Path string // of the file; see UsersFile
	Cost int    // bcrypt cost of new passwords; 0 means passhash.DefaultCost
	Fold bool   // see OpenUsersFile
}

// dummyHash is the tail of a well-formed hash without a known password.
const dummyHash = "$Ov3rTheH1llsAndFarAway.uF1dd1erzGr33nAndTheDrumzOfW4r"

// users answers from a users file.
type users struct {
	file    *UsersFile
	cost    int
	hashing Hashing
	dummy   string                           // hash to compare for unknown users
	match   func(hash, password string) bool // passhash.Match
}

// NewUsers returns a backend for a users file, which need not exist yet. It answers auth, isuser,
// setpass, tryregister, removeuser and removeuser3. bcrypt runs on hashing. Its errors say why the
// file cannot be read or the cost is invalid.
func NewUsers(o UsersOptions, hashing Hashing) (Backend, error) {
	o.Cost = cmp.Or(o.Cost, passhash.DefaultCost)
	if o.Cost < passhash.MinCost || o.Cost > passhash.MaxCost {
		return nil, fmt.Errorf("bcrypt_cost %d is out of range: use %d to %d", o.Cost, passhash.MinCost, passhash.MaxCost)
	}
	file, err := OpenUsersFile(o.Path, o.Fold)
	if err != nil {
		return nil, err
	}
	return &users{file, o.Cost, hashing, fmt.Sprintf("$2b$%02d%s", o.Cost, dummyHash), passhash.Match}, nil
}

// Close implements Backend.
func (u *users) Close() error { return nil }

// HasDomain implements Domains.
func (u *users) HasDomain(domain string) (bool, error) { return u.file.hasDomain(domain) }

// Stamp implements Stamper.
func (u *users) Stamp() string { return u.file.stamp() }

// Ask implements Backend. Known is set for every user in the file.
func (u *users) Ask(ctx context.Context, q Query) Result {
	switch q.Op {
	case auth.OpAuth, auth.OpIsUser, auth.OpSetPass, auth.OpTryRegister, auth.OpRemoveUser, auth.OpRemoveUser3:
	default:
		return Result{Class: Unsupported}
	}
	id, err := auth.NewIdentity(q.User, q.Domain)
	if err != nil {
		return Result{Class: Refused}
	}
	if q.Op.NeedsSecret() && auth.CheckSecret(q.Secret.Reveal()) != nil {
		return Result{Class: Refused}
	}
	found, err := u.file.lookup(id)
	if err != nil {
		return failure(err)
	}
	if found.known && found.entry.err != nil {
		return Result{Class: Misconfigured, Known: true, Err: found.entry.err}
	}
	r := u.answer(ctx, q, found)
	r.Exact = found.twins
	if r.Class == Accepted {
		r.Account = found.id.User
	}
	return r
}

// answer answers about what the file has of a name.
func (u *users) answer(ctx context.Context, q Query, found usersMatch) Result {
	switch q.Op {
	case auth.OpAuth:
		return u.check(ctx, found.id, q.Secret, found.entry, found.known)
	case auth.OpIsUser:
		return answer(found.known, found.known)
	case auth.OpRemoveUser:
		return changed(u.file.Remove(ctx, found.id), found.known)
	case auth.OpRemoveUser3:
		if r := u.check(ctx, found.id, q.Secret, found.entry, found.known); r.Class != Accepted {
			return r
		}
		return changed(u.file.Remove(ctx, found.id), found.known)
	}
	return u.write(ctx, q, found.id, found.known)
}

// answer is Accepted or Refused for a user that the file has or does not have.
func answer(yes, known bool) Result {
	if yes {
		return Result{Class: Accepted, Known: known}
	}
	return Result{Class: Refused, Known: known, Absent: !known}
}

// check compares a password. It takes the same time for unknown users and for passwords of any
// length, which would otherwise reveal which users exist and which passwords are long: a hash of a
// cost that the file has is compared for a user without one.
func (u *users) check(ctx context.Context, id auth.Identity, secret auth.Secret, entry usersEntry, known bool) Result {
	hash := entry.hash
	if !known {
		cost, served := u.file.like(id)
		if hash = u.dummy; cost != "" {
			hash = hash[:4] + cost + hash[6:]
		}
		if !served { // a domain may be invented, and has no turn of its own on the processors
			id.Domain = ""
		}
	}
	fit, match := passhash.SameLength(hash, secret.Reveal()), false
	if err := u.hashing(ctx, id, func() { match = u.match(fit, secret.Reveal()) }); err != nil {
		return Result{Class: Outage, Known: known, Err: fmt.Errorf("the password was not compared: %w", err)}
	}
	return answer(known && match && fit == hash, known)
}

// write registers a user or sets a password. It refuses before the expensive hash if the user
// exists already, or does not exist.
func (u *users) write(ctx context.Context, q Query, id auth.Identity, known bool) Result {
	if register := q.Op == auth.OpTryRegister; register == known {
		return answer(false, known)
	}
	var hash string
	var failed error
	err := u.hashing(ctx, id, func() { hash, failed = passhash.New(q.Secret.Reveal(), u.cost) })
	if err == nil {
		err = failed
	}
	if err == nil && hash == "" { // for the file that means to remove the user
		err = errors.New("there is no hash")
	}
	if err != nil {
		return Result{Class: Outage, Known: known, Err: fmt.Errorf("the password was not hashed: %w", err)}
	}
	if q.Op == auth.OpTryRegister {
		return changed(u.file.Add(ctx, id, hash), true)
	}
	return changed(u.file.Set(ctx, id, hash), known)
}

// changed is the result of a change of the file.
func changed(err error, known bool) Result {
	switch {
	case err == nil:
		return Result{Class: Accepted, Known: known}
	case errors.Is(err, ErrExists):
		return answer(false, true)
	case errors.Is(err, ErrUnknownUser), errors.Is(err, ErrName):
		return answer(false, false)
	}
	return failure(err)
}

// failure is the result when the file cannot be read or written.
func failure(err error) Result {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrBrokenFile) {
		return Result{Class: Misconfigured, Err: err}
	}
	return Result{Class: Outage, Err: err}
}
