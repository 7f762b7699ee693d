package tokens

import (
	"encoding/binary"
	"sync"
	"time"

	"postern/internal/store"
	"postern/internal/token"
)

// maxNonces bounds the memory of used single-use tokens of one share of the users, over all
// domains. When it is full of live ones, further tokens are a temporary failure: forgetting
// one would let it be used twice.
const maxNonces = 1 << 18

// usedTokens is the memory of the single-use tokens of a share of the users, of all domains: it
// outlives every change of the configuration, so that no change makes a used token valid again.
type usedTokens struct {
	mu   sync.Mutex
	used *token.Replay
}

func newUsedTokens() *usedTokens { return &usedTokens{used: token.NewReplay(maxNonces)} }

func (u *usedTokens) use(n token.Nonce, now time.Time) (fresh, full bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.used.Use(n, now)
}

func (u *usedTokens) restore(n token.Nonce) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.used.Restore(n)
}

// nonceVersion is the first byte of a stored nonce's value.
const nonceVersion = 1

// nonceRecord stores a used nonce: key nonce/ID, value version and expiry (Unix seconds).
func nonceRecord(n token.Nonce) (key, value []byte) {
	return append([]byte(store.Nonces), n.ID[:]...), binary.BigEndian.AppendUint64([]byte{nonceVersion}, uint64(n.Expires))
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

// Save returns the used tokens for a successor of the process.
func (w *Workers) Save() (all token.SavedReplay) {
	for _, m := range w.memory {
		m.mu.Lock()
		s := m.used.Save()
		m.mu.Unlock()
		all.Nonces = append(all.Nonces, s.Nonces...)
		all.Closed = max(all.Closed, s.Closed)
	}
	return all
}

// Inherit notes the tokens that were used in a former process. Every worker gets all of them, as with
// Restore.
func (w *Workers) Inherit(s token.SavedReplay) {
	for _, m := range w.memory {
		m.mu.Lock()
		m.used.RestoreAll(s)
		m.mu.Unlock()
	}
}

// Restore brings back, after a restart of the process, the single-use tokens that could still be
// presented. Every worker gets all of them: the user of a nonce is not stored, and they are few.
// The others are removed after that, so that a disk which cannot be written keeps none from being
// restored.
func (w *Workers) Restore() {
	if w.env.Disk().Shared() != nil { // it is asked about each token, and drops what has expired
		return
	}
	now := w.env.Clock().Unix()
	err := w.env.Disk().Store().Scan([]byte(store.Nonces), func(key, value []byte) bool {
		if n, ok := nonceOf(key, value); ok && now < n.Expires {
			for _, m := range w.memory {
				m.restore(n)
			}
		}
		return true
	})
	if err != nil {
		w.env.Log.Error("stored tokens could not be read", "err", err)
	}
	w.Prune()
}

// maxPruned bounds what one scan of the stored nonces removes.
const maxPruned = 10000

// Prune removes the stored nonces that have expired, a bounded number at a time.
func (w *Workers) Prune() {
	disk := w.env.Disk()
	if disk == nil || disk.Shared() != nil {
		return
	}
	for more := true; more && w.env.Context.Err() == nil; {
		gone, err := staleNonces(disk.Store(), w.env.Clock().Unix())
		if err == nil && len(gone) > 0 {
			err = disk.Store().Apply(gone, false)
		}
		if err != nil {
			w.env.Log.Error("expired tokens could not be removed", "err", err)
		}
		more = err == nil && len(gone) == maxPruned
	}
}

// staleNonces lists the removal of the first stored nonces that have expired or make no sense.
func staleNonces(s store.Store, now int64) (gone []store.Op, err error) {
	err = s.Scan([]byte(store.Nonces), func(key, value []byte) bool {
		if n, ok := nonceOf(key, value); !ok || now >= n.Expires {
			gone = append(gone, store.Op{Key: append([]byte(nil), key...)})
		}
		return len(gone) < maxPruned
	})
	return gone, err
}
