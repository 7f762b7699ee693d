package actors

import (
	"encoding/binary"
	"hash/maphash"
	"time"

	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/token"
)

// nonceVersion is the first byte of a stored nonce's value.
const nonceVersion = 1

// nonceOps stores a used nonce: key nonce/ID, value version and expiry (Unix seconds).
func nonceOps(n token.Nonce) []store.Op {
	value := binary.BigEndian.AppendUint64([]byte{nonceVersion}, uint64(n.Expires))
	return []store.Op{{Key: append([]byte(store.Nonces), n.ID[:]...), Value: value}}
}

// restoreNonces brings back, after a restart of the process, the single-use tokens that
// could still be presented. Every worker learns all of them: which user a nonce was of is not
// stored, and they are few.
func (b *Broker) restoreNonces() {
	restore := func(n token.Nonce) {
		for _, r := range b.replays {
			r.restore(n)
		}
	}
	for b.scanNonces(restore) { // a look ends where it has removed enough
	}
}

// pruneNonces removes all stored nonces that do not count any more, a bounded number at a time.
func (b *Broker) pruneNonces() {
	defer b.pruning.Store(false)
	for b.ctx.Err() == nil && b.scanNonces(func(token.Nonce) {}) {
	}
}

// scanNonces calls live for each stored nonce that still counts and removes the others, up to a
// number of them; more reports that there may be more.
func (b *Broker) scanNonces(live func(token.Nonce)) (more bool) {
	disk := b.disk.Load()
	if disk == nil {
		return false
	}
	now := b.clock()
	var gone []store.Op
	err := disk.Scan([]byte(store.Nonces), func(key, value []byte) bool {
		var n token.Nonce
		id := key[len(store.Nonces):]
		if len(value) == 9 && value[0] == nonceVersion && len(id) == len(n.ID) {
			copy(n.ID[:], id)
			n.Expires = int64(binary.BigEndian.Uint64(value[1:]))
			if now.Unix() < n.Expires {
				live(n)
				return true
			}
		}
		gone = append(gone, store.Op{Key: append([]byte(nil), key...)})
		return len(gone) < maxPruned
	})
	if err == nil && len(gone) > 0 {
		err = disk.Apply(gone, false)
	}
	if err != nil {
		b.log.Error("stored tokens could not be read", "err", err)
	}
	return err == nil && len(gone) == maxPruned
}

// maxPruned bounds what one look through the stored nonces removes.
const maxPruned = 10000

// pruneEvery is how often expired nonces are removed from disk.
const pruneEvery = time.Minute

// userHash chooses the worker of a user, and stands for the user where limits are kept: those of one
// name in two domains that share a block are two.
func (b *Broker) userHash(id auth.Identity) uint64 {
	var h maphash.Hash
	h.SetSeed(b.seed)
	_, _ = h.WriteString(id.User)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(id.Domain)
	return h.Sum64()
}
