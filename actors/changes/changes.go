// Package changes knows when what logs users in was last changed, and reports changes to servers that
// have asked for it.
//
// An XMPP server logs users in by itself for weeks: by tokens that it has issued after a login with the
// password (FAST), and by sessions that stay. It must end that when the password was changed or taken
// back. So a change is the last moment before which nothing that was issued is valid: a new password set
// through postern, a refusal of a secret that was accepted before, a forget, the end of an account. A new
// secret beside the others is none.
//
// Log is the owner of these times. They are kept on disk, apart from the cache, so that a forget does not
// lose them, for as long as a server's tokens may live.
package changes

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"postern/actors/env"
	"postern/internal/auth"
	"postern/internal/store"
)

// keptFor is how long a change is known. Prosody's tokens live for 21 days by default.
const keptFor = 90 * 24 * time.Hour

// Kind is what was changed.
type Kind byte

// The kinds of changes, as they are written on disk and on the wire.
const (
	// Secret: a password is not valid any more, or may not be.
	Secret Kind = 'c'
	// Disabled: the account may not log in any more, or is gone from its backend.
	Disabled Kind = 'd'
	// Removed: the account was removed through postern.
	Removed Kind = 'r'
)

// Change is one change. An ID without a user stands for all users of the domain, and the zero ID for all
// users.
type Change struct {
	ID   auth.Identity
	Kind Kind
	At   time.Time // to the millisecond
}

// Watcher receives the changes of a domain's accounts.
type Watcher interface {
	// Changed must not block.
	Changed(Change)
}

// Log is safe for concurrent use. A nil Log knows nothing.
type Log struct {
	env env.Env

	mu       sync.Mutex
	last     map[key]Change                  // those read from disk are without a name
	watchers map[string]map[Watcher]struct{} // by domain
}

// New returns an empty log.
func New(e env.Env) *Log {
	return &Log{env: e, last: make(map[key]Change), watchers: make(map[string]map[Watcher]struct{})}
}

// key is the SHA-256 of a folded name: what is forgotten of an account must not be read on the disk. Where a
// backend has two accounts that differ by case, a change of one counts for both, which costs a login with
// the password.
type key [sha256.Size]byte

func keyOf(id auth.Identity) key {
	return sha256.Sum256([]byte(auth.FoldUser(id.User) + "\x00" + id.Domain))
}

// Note notes a change at this moment and reports it. kept says whether it is kept on disk. An account that
// is known to be disabled is not disabled again.
func (l *Log) Note(id auth.Identity, kind Kind, kept bool) {
	if l == nil {
		return
	}
	now := time.UnixMilli(l.env.Clock().UnixMilli())
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.last[keyOf(id)]
	if kind == Disabled && was.Kind == Disabled {
		return
	}
	if !now.After(was.At) { // the clock was set back, or two changes came at once
		now = was.At.Add(time.Millisecond)
	}
	c := Change{auth.Identity{User: auth.FoldUser(id.User), Domain: id.Domain}, kind, now}
	l.put(c, kept)
	for domain, watchers := range l.watchers {
		if domain == id.Domain || id.Domain == "" || domain == "" {
			for w := range watchers {
				w.Changed(c)
			}
		}
	}
}

// Enabled notes that an account may log in. It is no change, but it may be disabled again.
func (l *Log) Enabled(id auth.Identity, kept bool) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.last[keyOf(id)]; c.Kind == Disabled {
		l.put(Change{id, Secret, c.At}, kept)
	}
}

func (l *Log) put(c Change, kept bool) {
	k := keyOf(c.ID)
	l.last[k] = c
	if disk := l.env.Disk(); kept && disk != nil {
		disk.Put(record(k, c))
	}
}

// State returns the time of the last change of an account, or of all accounts of its domain, or of all,
// whichever is latest, and whether the account is disabled. The time is zero if there was none.
func (l *Log) State(id auth.Identity) (changed time.Time, disabled bool) {
	if l == nil {
		return time.Time{}, false
	}
	own := keyOf(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, scope := range []key{own, keyOf(auth.Identity{Domain: id.Domain}), keyOf(auth.Identity{})} {
		if at := l.last[scope].At; at.After(changed) {
			changed = at
		}
	}
	return changed, l.last[own].Kind == Disabled
}

// Watch reports the changes of a domain, or of all if it is empty, to w, first those since a time, if
// this process has seen them; the zero time is now.
func (l *Log) Watch(domain string, since time.Time, w Watcher) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	set := l.watchers[domain]
	if set == nil {
		set = make(map[Watcher]struct{})
		l.watchers[domain] = set
	}
	set[w] = struct{}{}
	if since.IsZero() {
		return
	}
	everyone := keyOf(auth.Identity{})
	for k, c := range l.last {
		if (c.ID.Domain == domain || k == everyone) && !c.At.Before(since) {
			w.Changed(c)
		}
	}
}

// Unwatch ends what Watch began.
func (l *Log) Unwatch(domain string, w Watcher) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.watchers[domain], w)
	if len(l.watchers[domain]) == 0 {
		delete(l.watchers, domain)
	}
}

// Restore reads what is kept on disk.
func (l *Log) Restore() {
	disk := l.env.Disk()
	if disk == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err := disk.Store().Scan([]byte(store.Changes), func(key, value []byte) bool {
		if k, c, ok := changeOf(key, value); ok && c.At.After(l.last[k].At) {
			l.last[k] = c
		}
		return true
	})
	if err != nil {
		l.env.Log.Error("changes of accounts could not be read: tokens that servers have issued before them count as valid", "err", err)
	}
}

// Read takes over the changes that other nodes have noted in a shared store, of those with the given keys. Watchers
// are not told: no name is stored.
func (l *Log) Read(keys []string) {
	disk := l.env.Disk()
	if disk == nil {
		return
	}
	for _, name := range keys {
		if !strings.HasPrefix(name, store.Changes) {
			continue
		}
		value, err := disk.Store().Get([]byte(name))
		if err != nil {
			continue // it is gone, or comes again with the next start
		}
		k, c, ok := changeOf([]byte(name), value)
		l.mu.Lock()
		if was := l.last[k]; ok && c.At.After(was.At) {
			c.ID = was.ID
			l.last[k] = c
		}
		l.mu.Unlock()
	}
}

// Prune forgets the changes before which no server's token can have been issued any more.
func (l *Log) Prune() {
	before := l.env.Clock().Add(-keptFor)
	disk := l.env.Disk()
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, c := range l.last {
		if c.At.Before(before) {
			delete(l.last, k)
			if disk != nil {
				name, _ := record(k, c)
				disk.Put(name, nil)
			}
		}
	}
}

// version is the first byte of a stored change's value.
const version = 1

// record stores a change: key changed/HASH, value version, kind and time (Unix milliseconds).
func record(k key, c Change) (name, value []byte) {
	return append([]byte(store.Changes), k[:]...),
		binary.BigEndian.AppendUint64([]byte{version, byte(c.Kind)}, uint64(c.At.UnixMilli()))
}

// Op is the write that notes a change in the store of a broker that does not run.
func Op(id auth.Identity, kind Kind, at time.Time) store.Op {
	name, value := record(keyOf(id), Change{id, kind, at})
	return store.Op{Key: name, Value: value}
}

// changeOf reads a stored change.
func changeOf(name, value []byte) (k key, c Change, ok bool) {
	hash := name[len(store.Changes):]
	if len(hash) != len(k) || len(value) != 10 || value[0] != version {
		return k, c, false
	}
	copy(k[:], hash)
	return k, Change{Kind: Kind(value[1]), At: time.UnixMilli(int64(binary.BigEndian.Uint64(value[2:])))}, true
}
