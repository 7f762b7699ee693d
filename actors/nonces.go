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

// nonceOf reads a stored nonce.
func nonceOf(key, value []byte) (n token.Nonce, ok bool) {
	id := key[len(store.Nonces):]
	if len(value) != 9 || value[0] != nonceVersion || len(id) != len(n.ID) {
		return n, false
	}
	copy(n.ID[:], id)
	n.Expires = int64(binary.BigEndian.Uint64(value[1:]))
	return n, true
}

// restoreNonces brings back, after a restart of the process, the single-use tokens that
// could still be presented. Every worker learns all of them: which user a nonce was of is not
// stored, and they are few. The others are removed after that, so that a disk which cannot be
// written keeps none from being restored.
func (b *Broker) restoreNonces() {
	now := b.clock().Unix()
	err := b.disk.Load().Scan([]byte(store.Nonces), func(key, value []byte) bool {
		if n, ok := nonceOf(key, value); ok && now < n.Expires {
			for _, r := range b.replays {
				r.restore(n)
			}
		}
		return true
	})
	if err != nil {
		b.log.Error("stored tokens could not be read", "err", err)
	}
	b.removeNonces()
}

// pruneNonces removes the stored nonces that do not count any more.
func (b *Broker) pruneNonces() {
	defer b.pruning.Store(false)
	b.removeNonces()
}

// removeNonces removes all stored nonces that do not count any more, a bounded number at a time.
func (b *Broker) removeNonces() {
	disk := b.disk.Load()
	if disk == nil {
		return
	}
	for more := true; more && b.ctx.Err() == nil; {
		gone, err := staleNonces(disk, b.clock().Unix())
		if err == nil && len(gone) > 0 {
			err = disk.Apply(gone, false)
		}
		if err != nil {
			b.log.Error("expired tokens could not be removed", "err", err)
		}
		more = err == nil && len(gone) == maxPruned
	}
}

// staleNonces lists the removal of the first stored nonces that do not count any more.
func staleNonces(disk store.Store, now int64) (gone []store.Op, err error) {
	err = disk.Scan([]byte(store.Nonces), func(key, value []byte) bool {
		if n, ok := nonceOf(key, value); !ok || now >= n.Expires {
			gone = append(gone, store.Op{Key: append([]byte(nil), key...)})
		}
		return len(gone) < maxPruned
	})
	return gone, err
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
