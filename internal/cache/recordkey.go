package cache

import (
	"bytes"

	"postern/internal/auth"
	"postern/internal/store"
)

// RecordKey is the store's key of a user's record, the same for all spellings.
func RecordKey(id auth.Identity) []byte {
	return append(RecordPrefix(id.Domain), auth.FoldUser(id.User)...)
}

// RecordPrefix is the prefix of the keys of all records of a domain.
func RecordPrefix(domain string) []byte { return store.CredentialsOf(domain) }

// RecordIdentity is the inverse of RecordKey. It is false for a key without a user.
func RecordIdentity(key []byte) (id auth.Identity, ok bool) {
	domain, user, ok := bytes.Cut(key[len(store.Credentials):], []byte{0})
	if !ok {
		return id, false
	}
	return auth.Identity{Domain: string(domain), User: string(user)}, true
}
