package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// syncEvery is how long an unsynced change may wait for the disk.
const syncEvery = 200 * time.Millisecond

// ErrFailed is wrapped by every error after the store has failed for good: a full disk
// during a write, a corrupted file. It is not used again until the next start.
var ErrFailed = errors.New("store has failed")

// Pebble is the embedded store.
type Pebble struct {
	db    *pebble.DB
	log   *slog.Logger
	dir   string
	files vfs.FS

	failed atomic.Pointer[string]
	broken chan struct{} // closed when it has failed
	dirty  atomic.Bool

	mu     sync.RWMutex // held for writing while the store closes
	closed bool
	stop   chan struct{}
	done   chan struct{}
}

var _ Store = (*Pebble)(nil)

// Get implements Store.
func (p *Pebble) Get(key []byte) (value []byte, err error) {
	unlock, err := p.use()
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer p.recovered(&err)
	v, closer, err := p.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	value = append([]byte(nil), v...)
	return value, closer.Close()
}

// Scan implements Store.
func (p *Pebble) Scan(prefix []byte, fn func(key, value []byte) bool) (err error) {
	unlock, err := p.use()
	if err != nil {
		return err
	}
	defer unlock()
	defer p.recovered(&err)
	it, err := p.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return fmt.Errorf("scan store: %w", err)
	}
	for ok := it.First(); ok && fn(it.Key(), it.Value()); ok = it.Next() {
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("scan store: %w", err)
	}
	return nil
}

// Apply implements Store. An unsynced change is visible at once and durable within a
// fraction of a second.
func (p *Pebble) Apply(ops []Op, sync bool) (err error) {
	unlock, err := p.use()
	if err != nil {
		return err
	}
	defer unlock()
	defer p.recovered(&err)
	if len(ops) == 0 && sync {
		if err := p.db.LogData(nil, pebble.Sync); err != nil {
			return fmt.Errorf("sync store: %w", err)
		}
		return nil
	}
	b := p.db.NewBatch()
	for _, op := range ops {
		if op.Value == nil {
			err = b.Delete(op.Key, nil)
		} else {
			err = b.Set(op.Key, op.Value, nil)
		}
		if err != nil {
			return fmt.Errorf("write store: %w", err)
		}
	}
	if sync {
		err = b.Commit(pebble.Sync)
	} else {
		err = b.Commit(pebble.NoSync)
		p.dirty.Store(true)
	}
	if err != nil {
		p.outdate()
		return fmt.Errorf("write store: %w", err)
	}
	return nil
}

// DeletePrefix implements Store.
func (p *Pebble) DeletePrefix(prefix []byte) (err error) {
	unlock, err := p.use()
	if err != nil {
		return err
	}
	defer unlock()
	defer p.recovered(&err)
	if err := p.db.DeleteRange(prefix, prefixEnd(prefix), pebble.Sync); err != nil {
		return fmt.Errorf("delete from store: %w", err)
	}
	return nil
}

// Size is the store's size on disk in bytes.
func (p *Pebble) Size() uint64 {
	unlock, err := p.use()
	if err != nil {
		return 0
	}
	defer unlock()
	return p.db.Metrics().DiskSpaceUsage()
}

// Failed says why the store is not used any more; "" while it works.
func (p *Pebble) Failed() string {
	if why := p.failed.Load(); why != nil {
		return *why
	}
	return ""
}

// Close implements Store. A second call does nothing.
func (p *Pebble) Close() (err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	close(p.stop)
	<-p.done
	if p.failed.Load() != nil {
		return nil // its locks may be held for ever
	}
	defer p.recovered(&err)
	if err := p.db.LogData(nil, pebble.Sync); err != nil {
		p.log.Error("store could not be synced", "err", err)
	}
	if err := p.db.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// use admits an operation; the caller must call unlock.
func (p *Pebble) use() (unlock func(), err error) {
	if why := p.failed.Load(); why != nil {
		return nil, fmt.Errorf("%w: %s", ErrFailed, *why)
	}
	p.mu.RLock()
	if p.closed {
		p.mu.RUnlock()
		return nil, ErrClosed
	}
	return p.mu.RUnlock, nil
}

// syncer makes unsynced changes durable, many with one fsync.
func (p *Pebble) syncer() {
	defer close(p.done)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		if p.dirty.Swap(false) {
			if err := p.sync(); err != nil {
				p.log.Error("store could not be synced", "err", err)
			}
		}
	}
}

func (p *Pebble) sync() (err error) {
	if why := p.failed.Load(); why != nil {
		return nil
	}
	defer p.recovered(&err)
	return p.db.LogData(nil, pebble.Sync)
}

// fatal is what pebble's "process must end" becomes within one of our own calls.
type fatal struct{ text string }

func (p *Pebble) recovered(err *error) {
	if reason := recover(); reason != nil {
		p.fail(fmt.Sprint(reason))
		*err = fmt.Errorf("%w: %s", ErrFailed, p.Failed())
	}
}

func (p *Pebble) fail(why string) {
	if p.failed.CompareAndSwap(nil, &why) {
		close(p.broken)
		p.outdate()
		p.log.Error("store has failed: the cache works from memory until postern is restarted", "cure", cure, "err", why)
	}
}

// prefixEnd is the first key after all keys with prefix, nil if there is none.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

var _ io.Closer = (*Pebble)(nil)
