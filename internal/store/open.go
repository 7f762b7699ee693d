package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// formatVersion is the layout of keys and values as a whole; each value has a version of
// its own besides.
const formatVersion = 1

// ErrLocked is wrapped by OpenPebble when another process owns the store.
var ErrLocked = errors.New("store is in use by another process")

// OpenPebble opens or creates the store in dir, a directory of its own that nobody else may look
// into. The error wraps ErrLocked if another process has it open.
func OpenPebble(dir string, log *slog.Logger) (*Pebble, error) {
	if err := foreignLink(dir); err != nil {
		return nil, err
	}
	readable := seclude(dir)
	p, err := openPebble(dir, log, vfs.Default)
	if err == nil && readable != nil {
		log.Warn("other users may be able to read the store, with its secrets: chmod 0700 its directory", "err", readable)
	}
	return p, err
}

// foreignLink keeps root from writing wherever another user, to whom the data directory belongs,
// leads it.
func foreignLink(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 || os.Geteuid() != 0 {
		return nil
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
		return fmt.Errorf("%s is a symbolic link that root did not make, so it is not followed: run this as the user that postern runs as, or chown -h root it", dir)
	}
	return nil
}

// seclude makes the directory of a store one for its owner only, since pebble makes directories
// and files that all can read. What keeps it from that is no obstacle to opening the store: if it
// is for pebble, too, pebble says so. It follows no link.
func seclude(dir string) error {
	if os.MkdirAll(dir, 0o700) != nil {
		return nil
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, syscall.ENOTDIR) { // a link, perhaps to a larger disk
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o077 == 0 {
			return err
		}
		return errors.New("it is a symbolic link, which is not followed")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	return f.Chmod(0o700)
}

func openPebble(dir string, log *slog.Logger, fs vfs.FS) (p *Pebble, err error) {
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
		// Most questions about strangers end at the filter, without a read.
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	opened := make(chan error, 1)
	go func() { opened <- p.open(dir, opts) }()
	select {
	case err = <-opened:
	case <-p.broken: // pebble may wait for ever for a goroutine that has ended
		err = fmt.Errorf("open store %s: %w: %s: %s", dir, ErrFailed, p.Failed(), cure)
	}
	if err != nil {
		return nil, err
	}
	go p.syncer()
	return p, nil
}

func (p *Pebble) open(dir string, opts *pebble.Options) (err error) {
	defer p.recovered(&err)
	if p.db, err = pebble.Open(dir, opts); err != nil {
		if locked(err) {
			return fmt.Errorf("open store %s: %w: stop the other postern first, or give this one its own data_dir", dir, ErrLocked)
		}
		return fmt.Errorf("open store %s: %w: %s", dir, err, cure)
	}
	if err = p.checkFormat(); err == nil {
		err = p.dropOutdated()
	}
	if err == nil {
		return nil
	}
	if p.failed.Load() == nil { // else its locks may be held for ever
		_ = p.db.Close()
		return fmt.Errorf("open store %s: %w", dir, err)
	}
	return fmt.Errorf("open store %s: %w: %s", dir, err, cure)
}

// cure is what to do about a store that cannot be opened.
const cure = "check disk space and the disk itself, then restart postern; if the files are damaged, " +
	"stop postern and move the directory away: the cache fills again with logins, and registered " +
	"domains come back with a list of `postern domain export`"

// locked recognises pebble's error for a directory that another process has locked.
func locked(err error) bool {
	text := err.Error()
	return strings.Contains(text, "lock held by current process") ||
		strings.Contains(text, "resource temporarily unavailable")
}

func (p *Pebble) checkFormat() error {
	key := []byte(Meta + "format")
	v, err := p.Get(key)
	if errors.Is(err, ErrNotFound) {
		return p.Apply([]Op{{key, []byte{formatVersion}}}, true)
	}
	if err == nil {
		err = knownFormat(v)
	}
	return err
}

func knownFormat(v []byte) error {
	if len(v) != 1 || v[0] != formatVersion {
		return fmt.Errorf("format %v is not known to this version of postern: install a newer one, or move the directory away to start with an empty cache", v)
	}
	return nil
}
