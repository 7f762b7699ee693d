package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"
)

// ErrAway is wrapped when a shared store cannot be reached, is too slow, or does not take a change now.
// Unlike ErrFailed it passes.
var ErrAway = errors.New("the shared store is away")

// Refused is the kind of the marks that tell the other processes beside a shared store that something of an
// account was refused or changed of which its record may say nothing: see WriteBehind.Mark.
const Refused = "refused/"

// Version stands for the content of one record as one process has written it. The zero Version stands for a
// record that does not exist.
type Version [16]byte

// Versions makes Versions that no other process makes. It is safe for concurrent use.
type Versions struct {
	process [8]byte
	n       atomic.Uint64
}

// NewVersions returns the Versions of this process.
func NewVersions() *Versions {
	v := new(Versions)
	_, _ = rand.Read(v.process[:]) // never fails, see crypto/rand
	return v
}

// Next returns another one.
func (v *Versions) Next() (next Version) {
	copy(next[:], v.process[:])
	binary.BigEndian.PutUint64(next[8:], v.n.Add(1))
	return next
}

// Record is what Read finds under a key.
type Record struct {
	Value   []byte
	Version Version
	// Former: it was written before the store was emptied, restarted or replaced by a replica, so that a later
	// change of it may be lost.
	Former bool
}

// Change is a change of one key. A nil Value deletes it. With Over it is carried out only if the record has the
// version Was, and gives it the version Now.
type Change struct {
	Key, Value []byte
	Over       bool
	Was, Now   Version
	Keep       time.Duration // the store deletes the key after it; 0: never
}

// Lost is a Change that was not carried out, since another process has written the record.
type Lost struct {
	Change int  // its index
	Of     bool // the record that is there can be read
	Record Record
}

// Swapper changes records only if no other process has changed them since they were read.
type Swapper interface {
	// Read returns a record. The error is ErrNotFound for one that does not exist, and wraps ErrAway after a
	// time that a login may wait.
	Read(key []byte) (Record, error)
	// Swap carries out changes, and returns those that were not since the record has another version. When
	// it fails, each of them may have been carried out or not.
	Swap(changes []Change) ([]Lost, error)
}

// Claimer gives each key to the first that claims it.
type Claimer interface {
	// Claim puts a value under a key, to be kept for a time, and reports whether the key was free. The error
	// wraps ErrAway also for a while after the store may have lost what was claimed before.
	Claim(ctx context.Context, key, value []byte, keep time.Duration) (first bool, err error)
}

// Entry is an entry of a Journal.
type Entry struct {
	Data []byte
	Age  time.Duration // since it was appended, by the clock of the store
}

// Journal is a list to which every process beside the store appends, and of which the store drops the oldest entries.
// A Watcher reports each change.
type Journal interface {
	// Append adds entries. When it fails, each may have been added or not.
	Append(entries [][]byte) error
	// After returns some of the entries behind a position, in their order, and the position behind these; the empty
	// position is before all. There are no more if it returns none.
	After(position string) (entries []Entry, next string, err error)
}

// Watcher tells which records other processes have changed.
type Watcher interface {
	// Watch has changed called with the keys that other processes have changed, on a goroutine of the store's.
	// It is called once, before the first Read.
	Watch(changed func(keys []string))
	// Term is the time for which changed has missed nothing. What was read in another term must be read
	// again. ok is false while changed may miss something. It takes no time.
	Term() (term uint64, ok bool)
}

// Shared is a store that several processes use at once.
type Shared interface {
	Store
	Swapper
	Claimer
	Watcher
	Journal
}

// Disk is a store as the process has opened it.
type Disk interface {
	Store
	Size() uint64   // in bytes; 0 if it is not known
	Failed() string // why it does not work; "" while it does
}
