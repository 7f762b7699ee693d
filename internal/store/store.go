package store

import "errors"

// ErrNotFound is returned by Get for an absent key.
var ErrNotFound = errors.New("not found")

// ErrClosed is returned once the store has been closed.
var ErrClosed = errors.New("store is closed")

// The kinds of keys. Every key starts with one of them.
const (
	Credentials = "cred/"    // one record per user: verifiers and isuser answers
	Changes     = "changed/" // when the accounts of users were last changed
	Nonces      = "nonce/"   // used single-use tokens, until their window ends
	Domains     = "domain/"  // one record per registered domain
	Roster      = "roster/"  // known state of users and groups on the XMPP servers
	Meta        = "meta/"    // format version

	AppPasswords = "apppw/" // one record per account: its app passwords

	Refusals = "journal/refusals" // the Journal of refused secrets, which only a shared store has
)

// Watched are the kinds of which processes have records in memory: a Watcher reports no others.
var Watched = []string{Credentials, Changes, Refused, Domains, AppPasswords, Refusals}

// CredentialsOf is the prefix of the keys of a domain's users.
func CredentialsOf(domain string) []byte { return []byte(Credentials + domain + "\x00") }

// Op is one change. A nil Value deletes the key.
type Op struct {
	Key   []byte
	Value []byte
}

// Store is safe for concurrent use. Implementations own their copies of keys and values.
type Store interface {
	// Get returns a copy of the value.
	Get(key []byte) ([]byte, error)
	// Scan calls fn for each key with prefix, in order, until fn returns false. The
	// slices are only valid during the call.
	Scan(prefix []byte, fn func(key, value []byte) bool) error
	// Apply carries out ops atomically and, with sync, returns only when they and all
	// before them are durable.
	Apply(ops []Op, sync bool) error
	// DeletePrefix removes every key with prefix, durably.
	DeletePrefix(prefix []byte) error
	// Close flushes and releases the store.
	Close() error
}
