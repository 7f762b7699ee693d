package store

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// copyKey has the directory with the copy of a store of which the upgrade has begun.
var copyKey = []byte(Meta + "copy")

// upgrade keeps a copy of the store, has its records rewritten and gives it the present format. An
// upgrade that was interrupted goes on without another copy.
func (p *Pebble) upgrade(rewrite func(Store) error) error {
	where, err := p.Get(copyKey)
	if errors.Is(err, ErrNotFound) {
		var dir string
		if dir, err = p.copy(); err == nil {
			where = []byte(dir)
			err = p.Apply([]Op{{copyKey, where}}, true)
		}
	}
	if err == nil {
		err = rewrite(p)
	}
	if err == nil {
		err = p.Apply([]Op{{copyKey, nil}, {formatKey, []byte{formatVersion}}}, true)
	}
	if err != nil {
		return fmt.Errorf("upgrade from postern 0.1.0: %w", err)
	}
	p.log.Warn("store was upgraded from postern 0.1.0, which cannot open it any more; the former store is kept in a copy: remove that when you will not go back",
		"store", p.dir, "copy", string(where))
	return nil
}

// copy copies the store into a directory beside it. The copy is for its owner only, and counts as
// complete if the store does.
func (p *Pebble) copy() (dir string, err error) {
	for n := 1; ; n++ {
		dir = p.dir + "-0.1.0"
		if n > 1 {
			dir += fmt.Sprint(".", n)
		}
		if _, err := p.files.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err := p.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return "", fmt.Errorf("the former store could not be copied: %w", err)
	}
	if p.files == vfs.Default {
		if err := seclude(dir); err != nil {
			return "", err
		}
	}
	if _, err := p.files.Stat(p.files.PathJoin(p.dir, complete)); err != nil {
		return dir, nil
	}
	f, err := p.files.Create(p.files.PathJoin(dir, complete), vfs.WriteCategoryUnspecified)
	if err == nil {
		err = errors.Join(f.Close(), syncDir(p.files, dir))
	}
	return dir, err
}
