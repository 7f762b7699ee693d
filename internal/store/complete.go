package store

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// complete is a file beside pebble's that stands there as long as the store has all that was
// learnt. It is removed when a broker goes on without the store, which a full disk permits: what
// the broker learns then is not there, such as that a password is not valid any more.
const complete = "complete"

// MarkIncomplete takes note that a broker works without the store in dir: what is kept of passwords is not
// used again. Where no store is, it does nothing.
func MarkIncomplete(dir string) error { return outdate(vfs.Default, dir) }

func outdate(files vfs.FS, dir string) error {
	err := files.Remove(files.PathJoin(dir, complete))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cached passwords that are not valid any more may be used after a restart: %w: remove the file before", err)
	}
	return syncDir(files, dir)
}

// syncDir makes durable which files there are in a directory.
func syncDir(files vfs.FS, dir string) error {
	d, err := files.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// outdate is Outdate for a store that cannot be written any more.
func (p *Pebble) outdate() {
	if err := outdate(p.files, p.dir); err != nil {
		p.log.Error("store", "err", err)
	}
}

// dropOutdated forgets what is kept of passwords if a broker has gone without the store meanwhile.
func (p *Pebble) dropOutdated() error {
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
