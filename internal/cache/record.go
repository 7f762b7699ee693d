package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// recordVersion is the first byte of every record that is written.
const recordVersion = 3

// Versions that are read besides. formerVersion is that of the records of postern 0.1.0, of which Upgrade makes
// others.
const (
	formerVersion    = 1
	grouplessVersion = 2 // without groups
)

// maxRecordVerifiers bounds a stored record, so that a damaged one cannot cause a large allocation.
const maxRecordVerifiers = 64

// ErrRecord means that a stored record cannot be read; it is treated as absent.
var ErrRecord = errors.New("unreadable cache record")

const (
	flagStale       = 1 << 0 // of a verifier
	flagSuspect     = 1 << 1 // of a verifier
	flagExact       = 1 << 2 // of a verifier
	flagExists      = 1 << 0 // of the record
	flagExistsExact = 1 << 1 // of the record
	flagAlias       = 1 << 2 // of the record
	flagDisabled    = 1 << 3 // of the record
)

// Encode returns the record of what disk keeps of u: verifiers with a hash, a positive isuser answer
// and an alias. It returns nil if there is none of them; see stored.
//
// Layout, version 3: version byte; flags byte; if flagged, the isuser answer: varint time, the 16
// bytes of its authority, its account and groups; if flagged, the alias: authority and account; uvarint number
// of verifiers; for each a flags byte, a length byte and the hash (or the text of a Sealer), three varints: first verified, last
// verified and last used, in Unix milliseconds, the latter two as differences to the first; authority,
// account and groups. An account, and groups (auth.Groups, not in version 2), are a text after its length as a uvarint.
func (u *User) Encode() []byte {
	verifiers := u.stored()
	yes := u.Exists.Known && u.Exists.Yes
	if len(verifiers) == 0 && !yes && u.Alias == (Alias{}) {
		return nil
	}
	b := make([]byte, 0, 48+len(verifiers)*128)
	b = append(b, recordVersion, flag(yes, flagExists)|flag(yes && u.Exists.Exact, flagExistsExact)|flag(u.Alias != (Alias{}), flagAlias)|flag(yes && u.Exists.Disabled, flagDisabled))
	if yes {
		b = binary.AppendVarint(b, int64(u.Exists.At))
		b = appendSource(b, u.Exists.By, u.Exists.Account)
		b = store.AppendText(b, string(u.Exists.Groups))
	}
	if u.Alias != (Alias{}) {
		b = appendSource(b, u.Alias.By, u.Alias.Account)
	}
	b = binary.AppendUvarint(b, uint64(len(verifiers)))
	for i := range verifiers {
		v := &verifiers[i]
		b = append(b, flag(v.Stale, flagStale)|flag(v.Suspect, flagSuspect)|flag(v.Exact, flagExact), byte(len(v.Hash)))
		b = append(b, v.Hash...)
		b = binary.AppendVarint(b, int64(v.First))
		b = binary.AppendVarint(b, int64(v.Verified-v.First))
		b = binary.AppendVarint(b, int64(v.Used-v.First))
		b = appendSource(b, v.By, v.Account)
		b = store.AppendText(b, string(v.Groups))
	}
	return b
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func appendSource(b []byte, by auth.AuthorityID, account string) []byte {
	return store.AppendText(append(b, by[:]...), account)
}

func readSource(r *store.ValueReader) (by auth.AuthorityID, account string) {
	copy(by[:], r.Bytes(uint64(len(by))))
	return by, r.Text()
}

func readGroups(r *store.ValueReader, version byte) auth.Groups {
	if version == grouplessVersion {
		return ""
	}
	return auth.Groups(r.Text())
}

// stored lists the verifiers as a record has them.
func (u *User) stored() []Verifier {
	return slices.DeleteFunc(u.certain(), func(v Verifier) bool { return v.Hash == "" || v.Until != 0 })
}

// certain lists the verifiers as they are if nothing follows. While a refused secret is being compared,
// hashes that may be its own are left out: a crash loses them rather than the refusal. While a
// suspected secret is being compared, they are suspect. Sealed ones were compared at once.
func (u *User) certain() (list []Verifier) {
	refused, suspect := u.comparing()
	list = make([]Verifier, 0, len(u.Verifiers))
	for _, v := range u.Verifiers {
		unknown := v.Key == (Key{}) && !sealed(v.Hash)
		if unknown && refused {
			continue
		}
		if unknown && suspect {
			v.suspect()
		}
		list = append(list, v)
	}
	return list
}

// Decode reads a record that Encode wrote. A verifier that is neither sealed nor a hash that passhash
// would check is an error: it would never match. The error wraps ErrRecord.
func Decode(record []byte) (*User, error) {
	if len(record) == 0 {
		return decode(record, recordVersion)
	}
	if v := record[0]; v != recordVersion && v != grouplessVersion {
		return nil, fmt.Errorf("%w: version %d", ErrRecord, v)
	}
	return decode(record, record[0])
}

// decode reads a record of a version. formerVersion has no accounts and no authorities.
func decode(record []byte, version byte) (*User, error) {
	r := store.ReadValue(record, version)
	u := new(User)
	flags := r.Byte()
	if flags&flagExists != 0 {
		u.Exists = Existence{Known: true, Yes: true, At: unixtime.Time(r.Varint())}
		if version != formerVersion {
			u.Exists.By, u.Exists.Account = readSource(r)
			u.Exists.Groups = readGroups(r, version)
			u.Exists.Exact = flags&flagExistsExact != 0
			u.Exists.Disabled = flags&flagDisabled != 0
		}
	}
	if flags&flagAlias != 0 {
		u.Alias.By, u.Alias.Account = readSource(r)
	}
	n := r.Uvarint()
	if !r.OK() || n > maxRecordVerifiers {
		return nil, fmt.Errorf("%w: truncated, or too many verifiers", ErrRecord)
	}
	for range n {
		flags := r.Byte()
		v := Verifier{Stale: flags&flagStale != 0, Suspect: flags&flagSuspect != 0}
		v.Exact = flags&flagExact != 0
		v.Hash = string(r.Bytes(uint64(r.Byte())))
		v.First = unixtime.Time(r.Varint())
		v.Verified = v.First + unixtime.Time(r.Varint())
		v.Used = v.First + unixtime.Time(r.Varint())
		if version != formerVersion {
			v.By, v.Account = readSource(r)
			v.Groups = readGroups(r, version)
		}
		if !r.OK() || !checkSealed(v.Hash) && passhash.Check(v.Hash) != nil {
			return nil, fmt.Errorf("%w: bad verifier", ErrRecord)
		}
		u.Verifiers = append(u.Verifiers, v)
	}
	if r.More() {
		return nil, fmt.Errorf("%w: trailing bytes", ErrRecord)
	}
	return u, nil
}
