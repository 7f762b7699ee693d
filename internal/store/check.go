package store

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// CheckPebble opens the store in dir, which must be there, without changing it, and closes it.
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
	v, err := p.Get([]byte(Meta + "format"))
	if err == nil {
		err = knownFormat(v)
	} else if errors.Is(err, ErrNotFound) {
		err = nil // no postern has come so far
	}
	return errors.Join(err, p.db.Close())
}
