package cache

import (
	"slices"

	"postern/internal/store"
)

// # Beside a shared store
//
// Where several processes use one store, each has the users in memory that it has seen, and the store has the
// records. A refusal of a secret that was accepted before changes the record, and the others read it again
// (Renew). A secret that has no hash yet is in no record: a mark in the store tells the others of every refusal of
// which the record says nothing, and they drop such secrets (Doubt). Both make the acceptances void that were
// asked for before: their order with the refusal is not known.
//
// Two processes that write one record at once write what both agree on (Merge): what is missing costs a question,
// while what one has removed must not come back.

// Renew takes over the record of the user, which another process may have written since the user was read. read is
// what it says; nil: there is none.
func (u *User) Renew(read *User, former bool) {
	if read == nil {
		read = new(User)
	}
	if read.Version != u.Version {
		u.renew(read)
	}
	if former {
		u.Distrust()
	}
}

func (u *User) renew(read *User) {
	was := u.Verifiers
	u.Verifiers = nil
	for _, v := range read.Verifiers {
		if i := slices.IndexFunc(was, func(old Verifier) bool { return old.Hash == v.Hash && old.Until == 0 }); i >= 0 {
			v.Key, v.graced, v.Used = was[i].Key, was[i].graced, max(v.Used, was[i].Used)
		}
		u.Verifiers = append(u.Verifiers, v)
	}
	for _, v := range was {
		if v.Until != 0 && read.Version != (store.Version{}) { // a token, of which no record knows
			v.Stale = true
			u.Verifiers = append(u.Verifiers, v)
		}
	}
	u.Exists, u.Alias, u.Version = read.Exists, read.Alias, read.Version
	u.dropRefusals()
	u.outdo()
}

// outdo has no acceptance remembered that was asked for before.
func (u *User) outdo() {
	u.refusals++
	u.lost = u.refusals
}

// Doubt notes that another process has had something of the account refused or changed of which the record says
// nothing: what is in memory only may be that.
func (u *User) Doubt() {
	u.Verifiers = slices.DeleteFunc(u.Verifiers, func(v Verifier) bool { return v.Hash == "" && v.Until == 0 })
	for i := range u.Verifiers {
		if v := &u.Verifiers[i]; v.Until != 0 {
			v.Stale = true
		}
	}
	u.dropRefusals()
	u.outdo()
}

// Distrust has every secret asked about at its next use, without grace: that it was refused may be lost.
func (u *User) Distrust() {
	for i := range u.Verifiers {
		u.Verifiers[i].suspect()
	}
	u.outdo()
}

// Merge returns what two records of one user agree on, which were written at the same time: what one of them has
// removed, or holds to be suspect, is so. Nil stands for no record. ok is false if theirs cannot be read, as one of
// a newer version: it is to be left alone.
func Merge(mine, theirs []byte) (merged []byte, ok bool) {
	if theirs == nil {
		return nil, true
	}
	b, err := Decode(theirs)
	if err != nil {
		return nil, false
	}
	if mine == nil {
		return nil, true
	}
	a, err := Decode(mine)
	if err != nil {
		return nil, true
	}
	var m User
	for _, v := range a.Verifiers {
		i := slices.IndexFunc(b.Verifiers, func(o Verifier) bool { return o.Hash == v.Hash && o.By == v.By && o.Name == v.Name })
		if i < 0 {
			continue
		}
		o := b.Verifiers[i]
		if o.Verified > v.Verified {
			v.Verified, v.Groups = o.Verified, o.Groups
		}
		v.Used = max(v.Used, o.Used)
		v.Stale, v.Suspect = v.Stale || o.Stale, v.Suspect || o.Suspect
		m.Verifiers = append(m.Verifiers, v)
	}
	if a.Exists.Name == b.Exists.Name && a.Exists.By == b.Exists.By && a.Exists.Yes && b.Exists.Yes {
		if m.Exists = a.Exists; b.Exists.At > a.Exists.At {
			m.Exists = b.Exists
		}
		m.Exists.Disabled = a.Exists.Disabled || b.Exists.Disabled
	}
	if a.Alias == b.Alias && len(m.Verifiers) == 0 {
		m.Alias = a.Alias
	}
	return m.Encode(), true
}
