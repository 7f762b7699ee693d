package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// syncEvery is the longest time for which an unsynced change waits for the disk.
const syncEvery = 200 * time.Millisecond

// formatVersion is the layout of keys and values as a whole; each value has a version of
// its own besides.
const formatVersion = 2

// formerFormat is that of postern 0.1.0, with a record for each spelling of a user.
const formerFormat = 1

// ErrFormer is wrapped by OpenPebble for a store of postern 0.1.0; see UpgradePebble.
var ErrFormer = errors.New("store of postern 0.1.0")

// ErrLocked is wrapped by OpenPebble when another process owns the store.
var ErrLocked = errors.New("store is in use by another process")

// ErrFailed is wrapped by every error after the store has failed for good: a full disk
// during a write, a corrupted file. It is not used again until the next start.
var ErrFailed = errors.New("store has failed")

// cure is the advice about a store that cannot be opened.
const cure = "check disk space and the disk itself, then restart postern; if the files are damaged, " +
	"stop postern and move the directory away: the cache fills again with logins, and registered " +
	"domains come back with a list of `postern domain export`; app passwords, if there are some, are lost with it " +
	"and come back only with a backup of the directory"

// Pebble is the embedded store.
type Pebble struct {
	db    *pebble.DB
	log   *slog.Logger
	dir   string
	files vfs.FS

	failed atomic.Pointer[string]
	broken chan struct{} // closed when it has failed
	dirty  atomic.Bool

	renewed  atomic.Bool // it has another serial than when it was opened
	renewing sync.Mutex

	mu     sync.RWMutex // held for writing while the store closes
	closed bool
	stop   chan struct{}
	done   chan struct{}
}

var _ Store = (*Pebble)(nil)

// OpenPebble opens or creates the store in dir, a directory of its own, which it makes accessible
// to its owner only. The error wraps ErrLocked if another process has it open, and ErrFailed if
// the disk or the files fail.
func OpenPebble(dir string, log *slog.Logger) (*Pebble, error) {
	if err := foreignLink(dir); err != nil {
		return nil, err
	}
	readable := seclude(dir)
	p, err := openPebble(dir, log, vfs.Default, nil)
	if err == nil && readable != nil {
		log.Warn("other users may be able to read the store, with its secrets: chmod 0700 its directory", "err", readable)
	}
	return p, err
}

// UpgradePebble opens a store of postern 0.1.0 and has upgrade rewrite its records. The former store
// stays beside it, in a directory that the log names. When it fails, or is interrupted, it can be
// repeated.
func UpgradePebble(dir string, log *slog.Logger, upgrade func(Store) error) (*Pebble, error) {
	return openPebble(dir, log, vfs.Default, upgrade)
}

// openPebble opens a store. Without an upgrade, one of the former format is an error.
func openPebble(dir string, log *slog.Logger, fs vfs.FS, upgrade func(Store) error) (p *Pebble, err error) {
	p = &Pebble{log: log, dir: dir, files: fs, broken: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{})}
	opts := &pebble.Options{
		FS:                 fs,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             pebbleLog{p},
		EventListener:      p.listener(),
		MemTableSize:       4 << 20,
		CacheSize:          8 << 20,
		WALBytesPerSync:    512 << 10,
		MaxOpenFiles:       256,
	}
	for i := range opts.Levels {
		// Most questions about unknown users end at the filter, without a read.
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	opened := make(chan error, 1)
	go func() { opened <- p.open(opts, upgrade) }()
	select {
	case err = <-opened:
	case <-p.broken: // pebble may wait for ever for a goroutine that has ended
		err = fmt.Errorf("%w: %s: %s", ErrFailed, p.Failed(), cure)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	go p.syncer()
	return p, nil
}

func (p *Pebble) open(opts *pebble.Options, upgrade func(Store) error) (err error) {
	defer p.recovered(&err)
	if err = beginNewest(p.files, p.dir); err != nil {
		return fmt.Errorf("%w: %s", err, cure)
	}
	if p.db, err = pebble.Open(p.dir, opts); err != nil {
		if locked(err) {
			return fmt.Errorf("%w: stop the other postern first, or give this one its own data_dir", ErrLocked)
		}
		return fmt.Errorf("%w: %s", err, cure)
	}
	if err = p.checkFormat(); errors.Is(err, ErrNotFound) {
		err = p.Apply([]Op{{formatKey, []byte{formatVersion}}}, false) // what is synced later comes after it in the log
	}
	former := errors.Is(err, ErrFormer) && upgrade != nil
	if err == nil || former {
		err = p.dropIncomplete()
	}
	if err == nil && former {
		err = p.upgrade(upgrade)
	}
	switch {
	case err == nil:
		return nil
	case p.failed.Load() != nil: // pebble's locks may be held for ever, so it is not closed
		return fmt.Errorf("%w: %s", err, cure)
	}
	_ = p.db.Close()
	return err
}

// CheckPebble opens the store in dir, which must exist, without changing it, and closes it.
// The error wraps ErrLocked if another process has it open.
func CheckPebble(dir string) (err error) {
	p := &Pebble{log: slog.New(slog.DiscardHandler), dir: dir, files: vfs.Default}
	defer p.recovered(&err)
	p.db, err = pebble.Open(dir, &pebble.Options{ReadOnly: true, Logger: pebbleLog{p}})
	switch {
	case err != nil && locked(err):
		return fmt.Errorf("open store %s: %w", dir, ErrLocked)
	case err != nil:
		return fmt.Errorf("open store %s: %w", dir, err)
	}
	if err = p.checkFormat(); errors.Is(err, ErrNotFound) || errors.Is(err, ErrFormer) {
		err = nil // creating the store was interrupted, or it is upgraded at the next start
	}
	return errors.Join(err, p.db.Close())
}

// locked recognises pebble's error for a directory that another process has locked.
func locked(err error) bool {
	text := err.Error()
	return strings.Contains(text, "lock held by current process") ||
		strings.Contains(text, "resource temporarily unavailable")
}

var (
	formatKey = []byte(Meta + "format")
	serialKey = []byte(Meta + "serial")
)

// Serial stands for the content of a store, as one process has left it. The zero Serial is none.
type Serial [16]byte

// Renew gives the store another serial, durably, and returns both. What was made for the former serial is
// not valid any more. The first change after OpenPebble does the same, so that whatever opens the store and
// changes it need not think of it.
func (p *Pebble) Renew() (was, now Serial, err error) {
	v, err := p.Get(serialKey)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return was, now, err
	}
	copy(was[:], v)
	err = p.do("write store", func() error {
		p.renewing.Lock()
		defer p.renewing.Unlock()
		now, err = p.renew(pebble.Sync)
		return err
	})
	return was, now, err
}

// renew writes another serial. p.renewing is held.
func (p *Pebble) renew(o *pebble.WriteOptions) (now Serial, err error) {
	_, _ = rand.Read(now[:]) // never fails, see crypto/rand
	if err := p.db.Set(serialKey, now[:], o); err != nil {
		p.markIncomplete()
		return Serial{}, err
	}
	p.renewed.Store(true)
	return now, nil
}

// changing has the first change of the store preceded by another serial.
func (p *Pebble) changing() error {
	if p.renewed.Load() {
		return nil
	}
	p.renewing.Lock()
	defer p.renewing.Unlock()
	if p.renewed.Load() {
		return nil
	}
	_, err := p.renew(pebble.NoSync) // it is in the log before the change
	return err
}

// checkFormat returns ErrNotFound for a store without a format, which is new.
func (p *Pebble) checkFormat() error {
	v, err := p.Get(formatKey)
	if err == nil && len(v) == 1 && v[0] == formerFormat {
		return fmt.Errorf("%w: start the daemon once, which upgrades it", ErrFormer)
	}
	if err == nil && (len(v) != 1 || v[0] != formatVersion) {
		return fmt.Errorf("format %v is not known to this version of postern: install a newer one, or move the directory away to start with an empty cache", v)
	}
	return err
}

// dropIncomplete forgets the cached passwords if the store is not complete, and marks it as
// complete.
func (p *Pebble) dropIncomplete() error {
	mark := p.files.PathJoin(p.dir, complete)
	if _, err := p.files.Stat(mark); err == nil {
		return nil
	}
	some := false
	err := p.Scan([]byte(Credentials), func(_, _ []byte) bool { some = true; return false })
	if err == nil && some {
		p.log.Warn("cached passwords are forgotten: postern has worked without its store, and some may not be valid any more")
		err = p.DeletePrefix([]byte(Credentials))
	}
	if err != nil {
		return err
	}
	f, err := p.files.Create(mark, vfs.WriteCategoryUnspecified)
	if err == nil {
		err = errors.Join(f.Close(), syncDir(p.files, p.dir))
	}
	if err != nil { // they are forgotten at the next start, too
		p.log.Error("store", "err", err)
	}
	return nil
}

// Get implements Store.
func (p *Pebble) Get(key []byte) (value []byte, err error) {
	err = p.do("read store", func() error {
		v, closer, err := p.db.Get(key)
		if err != nil {
			return err
		}
		value = append([]byte(nil), v...)
		return closer.Close()
	})
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	return value, err
}

// Scan implements Store.
func (p *Pebble) Scan(prefix []byte, fn func(key, value []byte) bool) (err error) {
	return p.do("scan store", func() error {
		it, err := p.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
		if err != nil {
			return err
		}
		for ok := it.First(); ok && fn(it.Key(), it.Value()); ok = it.Next() {
		}
		return it.Close()
	})
}

// Apply implements Store. An unsynced change is visible at once and durable within a
// fraction of a second.
func (p *Pebble) Apply(ops []Op, sync bool) error {
	return p.do("write store", func() error {
		if len(ops) == 0 && sync {
			return p.db.LogData(nil, pebble.Sync)
		}
		if err := p.changing(); err != nil {
			return err
		}
		b := p.db.NewBatch()
		for _, op := range ops {
			var err error
			if op.Value == nil {
				err = b.Delete(op.Key, nil)
			} else {
				err = b.Set(op.Key, op.Value, nil)
			}
			if err != nil {
				return err
			}
		}
		if !sync {
			defer p.dirty.Store(true)
		}
		err := b.Commit(&pebble.WriteOptions{Sync: sync})
		if err != nil {
			p.markIncomplete()
		}
		return err
	})
}

// DeletePrefix implements Store.
func (p *Pebble) DeletePrefix(prefix []byte) error {
	return p.do("delete from store", func() error {
		if err := p.changing(); err != nil {
			return err
		}
		return p.db.DeleteRange(prefix, prefixEnd(prefix), pebble.Sync)
	})
}

// Size is the store's size on disk in bytes; 0 if it cannot be used.
func (p *Pebble) Size() (bytes uint64) {
	_ = p.do("measure store", func() error {
		bytes = p.db.Metrics().DiskSpaceUsage()
		return nil
	})
	return bytes
}

// Failed is the reason why the store is not used any more; "" while it works.
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
		return nil // pebble's locks may be held for ever
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

// do runs one use of pebble, unless the store is closed or has failed. An error says what was done.
func (p *Pebble) do(what string, use func() error) (err error) {
	if why := p.failed.Load(); why != nil {
		return fmt.Errorf("%w: %s", ErrFailed, *why)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return ErrClosed
	}
	defer p.recovered(&err)
	if err := use(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
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
	if p.failed.Load() != nil {
		return nil
	}
	defer p.recovered(&err)
	return p.db.LogData(nil, pebble.Sync)
}

// recovered turns a panic of pebble, or of pebbleLog.Fatalf, into an error.
func (p *Pebble) recovered(err *error) {
	if reason := recover(); reason != nil {
		p.fail(fmt.Sprint(reason))
		*err = fmt.Errorf("%w: %s", ErrFailed, p.Failed())
	}
}

func (p *Pebble) fail(why string) {
	if p.failed.CompareAndSwap(nil, &why) {
		close(p.broken)
		p.markIncomplete()
		p.log.Error("store has failed: the cache works from memory until postern is restarted", "cure", cure, "err", why)
	}
}

// markIncomplete is MarkIncomplete for a store that can no longer be written.
func (p *Pebble) markIncomplete() {
	if err := markIncomplete(p.files, p.dir); err != nil {
		p.log.Error("store", "err", err)
	}
}

// listener receives the events that pebble does not return to its caller. Pebble would repeat failed
// background work at once, for ever, and end the process for a damaged file.
func (p *Pebble) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			p.fail(err.Error())
			runtime.Goexit() // its work stays marked as under way, so that it is not begun again
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) { p.fail(info.Details.Error()) },
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
