package cache

import (
	"encoding/binary"
	"errors"
	"fmt"

	"postern/internal/auth/passhash"
	"postern/internal/unixtime"
)

// recordVersion is the first byte of every stored record.
const recordVersion = 1

// Bounds of a stored record, so that a damaged one cannot cause a large allocation.
const (
	maxRecordVerifiers = 64
	maxHashLen         = 128
)

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
	d := decoder{b: record}
	if v := d.byte(); v != recordVersion {
		return nil, fmt.Errorf("%w: version %d", ErrRecord, v)
	}
	u := new(User)
	if d.byte()&flagExists != 0 {
		u.Exists = Existence{Known: true, Yes: true, At: unixtime.Time(d.varint())}
	}
	n := d.uvarint()
	if d.bad || n > maxRecordVerifiers {
		return nil, fmt.Errorf("%w: truncated, or too many verifiers", ErrRecord)
	}
	for range n {
		flags := d.byte()
		hash := string(d.bytes(int(d.byte())))
		first := unixtime.Time(d.varint())
		v := Verifier{Hash: hash, Stale: flags&flagStale != 0, Suspect: flags&flagSuspect != 0, First: first}
		v.Verified = first + unixtime.Time(d.varint())
		v.Used = first + unixtime.Time(d.varint())
		if d.bad || passhash.Check(hash) != nil {
			return nil, fmt.Errorf("%w: bad verifier", ErrRecord)
		}
		u.Verifiers = append(u.Verifiers, v)
	}
	if len(d.b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes follow its end", ErrRecord, len(d.b))
	}
	return u, nil
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.b) || n > maxHashLen {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	return v * d.take(n)
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	return v * uint64(d.take(n))
}

// take consumes n bytes and returns 1, or 0 if the number could not be read.
func (d *decoder) take(n int) int64 {
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return 1
}
