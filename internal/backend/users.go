package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/scram"
)

// UsersOptions configure the backend of a users file.
type UsersOptions struct {
	Path string // of the file; see UsersFile
	Cost int    // bcrypt cost of new passwords; 0 means passhash.DefaultCost
	Fold bool   // see OpenUsersFile
	// SeedFile is the path of the seed of SCRAM; see OpenSeed. Empty: no keys are kept.
	SeedFile string
	// Log takes errors of writing SCRAM keys, which are made after a login; nil: they are dropped.
	Log func(error)
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
	keys    *keyWriter                       // nil: no SCRAM keys are kept
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
	u := &users{file: file, cost: o.Cost, hashing: hashing, dummy: fmt.Sprintf("$2b$%02d%s", o.Cost, dummyHash), match: passhash.Match}
	if o.SeedFile != "" {
		seed, err := OpenSeed(o.SeedFile)
		if err != nil && o.Log != nil { // logins by password go on
			o.Log(err)
		}
		if err == nil {
			u.keys = newKeyWriter(file, seed, o.Log)
		}
	}
	return u, nil
}

// Close implements Backend. It writes the keys that were made.
func (u *users) Close() error {
	if u.keys != nil {
		u.keys.close()
	}
	return nil
}

// Keyless implements Keyed.
func (u *users) Keyless(domain string) (int, error) {
	if u.keys == nil {
		return 0, errKeyless
	}
	return u.file.KeylessUsers(domain, u.keys.seed)
}

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
	if q.Proof == nil && q.Op.NeedsSecret() && auth.CheckSecret(q.Secret.Reveal()) != nil {
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
		r.Groups = auth.GroupsOf(q.Groups, found.entry.list())
	}
	return r
}

// answer answers about what the file has of a name.
func (u *users) answer(ctx context.Context, q Query, found usersMatch) Result {
	switch q.Op {
	case auth.OpAuth:
		if q.Proof != nil {
			return prove(q.Proof, found.entry, found.known)
		}
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
	var keys *scram.Keys
	err := u.hashing(ctx, id, func() {
		if match = u.match(fit, secret.Reveal()); known && match && fit == hash {
			keys = u.keys.learn(id, entry, secret)
		}
	})
	if err != nil {
		return Result{Class: Outage, Known: known, Err: fmt.Errorf("the password was not compared: %w", err)}
	}
	if keys != nil {
		u.keys.put(id, learntKeys{hash, keys})
	}
	return answer(known && match && fit == hash, known)
}

// prove compares a proof with the keys of a user. It takes the same time for unknown users.
func prove(p *scram.Proof, entry usersEntry, known bool) Result {
	switch {
	case !known:
		p.Refuse()
		return answer(false, false)
	case entry.keys == nil || !p.Fits(entry.keys):
		p.Refuse()
		return Result{Class: Unsure, Known: true, Err: errKeyless}
	}
	signature, ok := p.Verify(entry.keys)
	r := answer(ok, true)
	r.Body = []byte(signature)
	return r
}

// errKeyless is why a proof cannot be compared.
var errKeyless = errors.New("there are no SCRAM keys of the user's password: they are made at its next login by PLAIN, or by postern user passwd")

// write registers a user or sets a password. It refuses before the expensive hash if the user
// exists already, or does not exist.
func (u *users) write(ctx context.Context, q Query, id auth.Identity, known bool) Result {
	if register := q.Op == auth.OpTryRegister; register == known {
		return answer(false, known)
	}
	var hash string
	var keys *scram.Keys
	var failed error
	err := u.hashing(ctx, id, func() {
		hash, failed = passhash.New(q.Secret.Reveal(), u.cost)
		keys = u.keys.learn(id, usersEntry{}, q.Secret)
	})
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
		return changed(u.file.Add(ctx, id, hash, keys), true)
	}
	return changed(u.file.Set(ctx, id, hash, keys), known)
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
