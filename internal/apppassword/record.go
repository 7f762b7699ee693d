package apppassword

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/scram"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// The first byte of a record is its version. Records without SCRAM keys are written as former versions read them.
const (
	recordVersion = 3 // with SCRAM keys
	plainVersion  = 2
	firstVersion  = 1 // without the time of the last login
)

// ErrRecord means that a stored record cannot be read. What the account has is then not known.
var ErrRecord = errors.New("unreadable record of app passwords")

// RecordKey is the store's key of an account's record, the same for all spellings.
func RecordKey(id auth.Identity) []byte {
	return append(RecordPrefix(id.Domain), auth.FoldUser(id.User)...)
}

// RecordPrefix is the prefix of the keys of all records of a domain.
func RecordPrefix(domain string) []byte { return []byte(store.AppPasswords + domain + "\x00") }

// RecordIdentity returns the account of a key; false for another kind of key.
func RecordIdentity(key string) (id auth.Identity, ok bool) {
	name, ok := strings.CutPrefix(key, store.AppPasswords)
	domain, user, whole := strings.Cut(name, "\x00")
	return auth.Identity{User: user, Domain: domain}, ok && whole
}

// Encode returns the stored form; nil if the account has no entries.
//
// Layout, version 3: version byte; uvarint number of entries; for each the texts ID, account and
// name, each after its length as a uvarint; uvarint number of services, and each as a text; varints
// created, expires, revoked, last used and last login (not in version 1), in Unix milliseconds, 0 for none; the texts service, front
// and client of the last use; the 8 bytes of the key's identity and the 32 bytes of the MAC; uvarint number of SCRAM
// keys, and each as a text (not in version 2).
func (a *Account) Encode() []byte {
	if len(a.Passwords) == 0 {
		return nil
	}
	b := make([]byte, 0, 16+len(a.Passwords)*160)
	version := byte(plainVersion)
	if slices.ContainsFunc(a.Passwords, func(p Password) bool { return len(p.keys) > 0 }) {
		version = recordVersion
	}
	b = binary.AppendUvarint(append(b, version), uint64(len(a.Passwords)))
	for i := range a.Passwords {
		p := &a.Passwords[i]
		for _, text := range [...]string{p.ID, p.Account, p.Name} {
			b = store.AppendText(b, text)
		}
		b = binary.AppendUvarint(b, uint64(len(p.Services)))
		for _, service := range p.Services {
			b = store.AppendText(b, service)
		}
		for _, at := range [...]unixtime.Time{p.Created, p.Expires, p.Revoked, p.Last.At, p.Login} {
			b = binary.AppendVarint(b, int64(at))
		}
		for _, text := range [...]string{p.Last.Service, p.Last.Front, p.Last.Client} {
			b = store.AppendText(b, text)
		}
		b = append(append(b, p.key[:]...), p.mac[:]...)
		if version < recordVersion {
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(p.keys)))
		for _, k := range p.keys {
			b = store.AppendText(b, k.Text())
		}
	}
	return b
}

// Decode reads what Encode wrote. The error wraps ErrRecord.
func Decode(record []byte) (*Account, error) {
	if len(record) > 0 && (record[0] < firstVersion || record[0] > recordVersion) {
		return nil, fmt.Errorf("%w: version %d is not known: install a newer postern", ErrRecord, record[0])
	}
	version := byte(recordVersion)
	if len(record) > 0 {
		version = record[0]
	}
	r, a := store.ReadValue(record, version), new(Account)
	n := r.Uvarint()
	if n == 0 || n > maxAlive+maxRevoked {
		return nil, fmt.Errorf("%w: damaged", ErrRecord)
	}
	for range n {
		p := Password{ID: r.Text(), Account: r.Text(), Name: r.Text()}
		services := r.Uvarint()
		if services > maxServices {
			return nil, fmt.Errorf("%w: damaged", ErrRecord)
		}
		for range services {
			p.Services = append(p.Services, r.Text())
		}
		times := [...]*unixtime.Time{&p.Created, &p.Expires, &p.Revoked, &p.Last.At, &p.Login}
		for i, at := range times {
			if i < len(times)-1 || version > firstVersion {
				*at = unixtime.Time(r.Varint())
			}
		}
		p.Last.Service, p.Last.Front, p.Last.Client = r.Text(), r.Text(), r.Text()
		copy(p.key[:], r.Bytes(uint64(len(p.key))))
		copy(p.mac[:], r.Bytes(uint64(len(p.mac))))
		if version >= recordVersion {
			p.keys = readKeys(r)
		}
		a.Passwords = append(a.Passwords, p)
	}
	if !r.Complete() {
		return nil, fmt.Errorf("%w: damaged", ErrRecord)
	}
	return a, nil
}

// readKeys reads the SCRAM keys of an entry. Damaged ones are none: they can be made again.
func readKeys(r *store.ValueReader) (keys []*scram.Keys) {
	for n := min(r.Uvarint(), forms); n > 0; n-- {
		if k, err := scram.ParseKeys(r.Text()); err == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// Getter reads a value; the error is store.ErrNotFound for an absent key.
type Getter interface {
	Get(key []byte) ([]byte, error)
}

// Reader reads a record; the error is store.ErrNotFound for an absent one.
type Reader interface {
	Read(key []byte) (store.Record, error)
}

// ReadRecord is Read for a store that others may share. It sets the account's Version.
func ReadRecord(s Reader, id auth.Identity) (*Account, error) {
	var version store.Version
	a, err := Read(getter(func(key []byte) ([]byte, error) {
		r, err := s.Read(key)
		version = r.Version
		return r.Value, err
	}), id)
	if err == nil {
		a.Version = version
	}
	return a, err
}

// getter is a function as a Getter.
type getter func(key []byte) ([]byte, error)

// Get implements Getter.
func (g getter) Get(key []byte) ([]byte, error) { return g(key) }

// Read returns the record of an account, which is empty if there is none. The error says that it could not
// be read.
func Read(s Getter, id auth.Identity) (*Account, error) {
	record, err := s.Get(RecordKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return new(Account), nil
	}
	if err != nil {
		return nil, fmt.Errorf("app passwords: %w", err)
	}
	return Decode(record)
}

// MergeRecords is Merge for records; nil stands for none. ok is false if theirs cannot be read: it is to be left alone.
func MergeRecords(mine, theirs []byte, now unixtime.Time) (merged []byte, ok bool) {
	var records [2]*Account
	for i, record := range [][]byte{mine, theirs} {
		a := new(Account)
		if record != nil {
			var err error
			if a, err = Decode(record); err != nil {
				return nil, false
			}
		}
		records[i] = a
	}
	return Merge(records[0], records[1], now).Encode(), true
}
