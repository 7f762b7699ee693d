package apppassword

import (
	"strings"

	"postern/internal/scram"
	"postern/internal/unixtime"
)

// forms is the number of forms in which a secret can be typed where the client proves it; see Secret.Keys.
const forms = 2

// tried is to a multiple of what number of proofs they are tried: the time must not show how many app passwords
// an account has.
const tried = 16

// Keys makes the SCRAM keys of a secret under a salt, in two forms: as it is shown, and without hyphens. Others are
// not the secret where the client proves it. It takes some milliseconds; the error is scram.Derive's.
func (s Secret) Keys(salt scram.Salt) (keys []*scram.Keys, err error) {
	shown := s.Show().Reveal()
	for _, text := range [forms]string{shown, strings.ReplaceAll(shown, "-", "")} {
		k, err := scram.Derive(text, salt)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// SetKeys gives the entry of a secret its SCRAM keys, and reports whether that changes the record.
func (a *Account) SetKeys(k *Key, domain, account string, s Secret, keys []*scram.Keys) (changed bool) {
	sum := k.mac(domain, account, s)
	for i := range a.Passwords {
		if p := &a.Passwords[i]; p.key == k.id && p.mac == sum && p.Revoked == 0 {
			p.keys, changed = keys, true
		}
	}
	return changed
}

// Keyed reports whether an entry has SCRAM keys of a salt.
func (p *Password) Keyed(salt scram.Salt) bool {
	for _, k := range p.keys {
		if !k.Fits(salt) {
			return false
		}
	}
	return len(p.keys) == forms
}

// Keyless returns how many entries, neither revoked nor expired, have no SCRAM keys. salt returns the salt of an account.
func (a *Account) Keyless(salt func(account string) scram.Salt, now unixtime.Time) (n int) {
	for i := range a.Passwords {
		if p := &a.Passwords[i]; p.Revoked == 0 && !p.Expired(now) && !p.Keyed(salt(p.Account)) {
			n++
		}
	}
	return n
}

// Prove looks up the secret that a client has proved to have, as Check does for a secret. signature is the
// server's answer to the proof. Unknowable is also the status if an entry has no keys that could be compared.
func (a *Account) Prove(k *Key, account string, proof *scram.Proof, service string, now unixtime.Time) (found *Password, signature string, status Status) {
	compared, unknowable := 0, false
	for i := range a.Passwords {
		p := &a.Passwords[i]
		if p.Account != account || p.key != k.id {
			unknowable = unknowable || p.Account == account && p.Revoked == 0
			continue
		}
		if len(p.keys) == 0 && p.Revoked == 0 && !p.Expired(now) {
			unknowable = true
		}
		for _, keys := range p.keys {
			if !proof.Fits(keys) {
				unknowable = unknowable || p.Revoked == 0 && !p.Expired(now)
				continue
			}
			compared++
			if text, ok := proof.Verify(keys); ok {
				found, signature = p, text
			}
		}
	}
	for ; compared == 0 || compared%tried > 0; compared++ {
		proof.Refuse()
	}
	switch {
	case found != nil:
		return found, signature, found.status(service, now)
	case unknowable:
		return nil, "", Unknowable
	}
	return nil, "", Unknown
}
