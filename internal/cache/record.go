package cache

import (
	"encoding/binary"
	"errors"
	"fmt"

	"postern/internal/auth/passhash"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// recordVersion is the first byte of every stored record.
const recordVersion = 1

// maxRecordVerifiers bounds a stored record, so that a damaged one cannot cause a large allocation.
const maxRecordVerifiers = 64

// ErrRecord means that a stored record cannot be read; it is treated as absent.
var ErrRecord = errors.New("unreadable cache record")

const (
	flagStale   = 1 << 0 // of a verifier
	flagSuspect = 1 << 1 // of a verifier
	flagExists  = 1 << 0 // of the record
)

// Encode returns the record of what disk keeps of u: verifiers with a hash and a positive isuser
// answer. It returns nil if there is neither; see stored.
//
// Layout, version 1: version byte; flags byte; varint time of the isuser answer, if
// flagged; uvarint number of verifiers; for each a flags byte, a length byte and the hash, and
// three varints: first verified, last verified and last used, in Unix milliseconds, the
// latter two as differences to the first.
func (u *User) Encode() []byte {
	verifiers := u.stored()
	yes := u.Exists.Known && u.Exists.Yes
	if len(verifiers) == 0 && !yes {
		return nil
	}
	b := make([]byte, 0, 16+len(verifiers)*96)
	b = append(b, recordVersion)
	if yes {
		b = append(b, flagExists)
		b = binary.AppendVarint(b, int64(u.Exists.At))
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(verifiers)))
	for i := range verifiers {
		v := &verifiers[i]
		var flags byte
		if v.Stale {
			flags |= flagStale
		}
		if v.Suspect {
			flags |= flagSuspect
		}
		b = append(b, flags, byte(len(v.Hash)))
		b = append(b, v.Hash...)
		b = binary.AppendVarint(b, int64(v.First))
		b = binary.AppendVarint(b, int64(v.Verified-v.First))
		b = binary.AppendVarint(b, int64(v.Used-v.First))
	}
	return b
}

// stored lists the verifiers as a record has them. While a refused secret is being compared,
// hashes that may be its own are left out: a crash loses them rather than the refusal. While a
// suspected secret is being compared, they are suspect.
func (u *User) stored() (list []Verifier) {
	refused, suspect := u.comparing()
	list = make([]Verifier, 0, len(u.Verifiers))
	for _, v := range u.Verifiers {
		if v.Hash == "" || v.Key == (Key{}) && refused {
			continue
		}
		if v.Key == (Key{}) && suspect {
			v.suspect()
		}
		list = append(list, v)
	}
	return list
}

// Decode reads a record that Encode wrote. A hash that passhash would not check is an
// error: it would never match. The error wraps ErrRecord.
func Decode(record []byte) (*User, error) {
	if len(record) > 0 && record[0] != recordVersion {
		return nil, fmt.Errorf("%w: version %d", ErrRecord, record[0])
	}
	r := store.ReadValue(record, recordVersion)
	u := new(User)
	if r.Byte()&flagExists != 0 {
		u.Exists = Existence{Known: true, Yes: true, At: unixtime.Time(r.Varint())}
	}
	n := r.Uvarint()
	if !r.OK() || n > maxRecordVerifiers {
		return nil, fmt.Errorf("%w: truncated, or too many verifiers", ErrRecord)
	}
	for range n {
		flags := r.Byte()
		v := Verifier{Stale: flags&flagStale != 0, Suspect: flags&flagSuspect != 0}
		v.Hash = string(r.Bytes(uint64(r.Byte())))
		v.First = unixtime.Time(r.Varint())
		v.Verified = v.First + unixtime.Time(r.Varint())
		v.Used = v.First + unixtime.Time(r.Varint())
		if !r.OK() || passhash.Check(v.Hash) != nil {
			return nil, fmt.Errorf("%w: bad verifier", ErrRecord)
		}
		u.Verifiers = append(u.Verifiers, v)
	}
	if r.More() {
		return nil, fmt.Errorf("%w: trailing bytes", ErrRecord)
	}
	return u, nil
}
