package apppassword

import (
	"strings"

	"postern/internal/store"
	"postern/internal/unixtime"
)

// Count says of records what an administrator should know of all app passwords.
type Count struct {
	Alive      int // neither revoked nor expired
	Strange    int // of them, under another key: their logins are temporary failures
	Unreadable int // records
}

// Add counts the entries of a stored record, in a domain with a key.
func (c *Count) Add(record []byte, k *Key, now unixtime.Time) {
	a, err := Decode(record)
	if err != nil {
		c.Unreadable++
		return
	}
	for i := range a.Passwords {
		p := &a.Passwords[i]
		if p.Revoked != 0 || p.Expired(now) {
			continue
		}
		c.Alive++
		if p.key != k.id {
			c.Strange++
		}
	}
}

// RecordDomain is the domain of a record with a key as of RecordKey.
func RecordDomain(key []byte) string {
	domain, _, _ := strings.Cut(strings.TrimPrefix(string(key), store.AppPasswords), "\x00")
	return domain
}
