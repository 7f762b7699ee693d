package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
)

// foreignLink refuses a directory that is another user's symbolic link, so that root does not write
// wherever the owner of the data directory leads it.
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

// seclude makes the directory of a store accessible to its owner only, since pebble creates
// directories and files that every user can read. It follows no link. After an error the store is
// opened all the same; if the cause prevents that, pebble reports it.
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

// beginNewest notes in an empty directory that the store there will have pebble's newest format. Otherwise pebble
// makes it in the oldest one, and each of a dozen steps to the newest waits for the disk: a first login by a
// pipe waits, too.
func beginNewest(files vfs.FS, dir string) error {
	there, err := files.List(dir)
	if err != nil || len(there) > 0 {
		return nil // pebble says what is wrong, if anything is
	}
	m, _, err := atomicfs.LocateMarkerInListing(files, dir, "format-version", there)
	if err != nil {
		return err
	}
	return errors.Join(m.Move(pebble.FormatNewest.String()), m.Close())
}

// complete is a file beside pebble's that exists as long as the store has everything that a broker
// learned. It is removed when a broker goes on without the store, which a full disk permits: what
// the broker learns then, such as that a password is no longer valid, is missing from the store.
const complete = "complete"

// MarkIncomplete notes that a broker works without the store in dir, so that its cached passwords are
// not used again. Without a store in dir it does nothing.
func MarkIncomplete(dir string) error { return markIncomplete(vfs.Default, dir) }

func markIncomplete(files vfs.FS, dir string) error {
	err := files.Remove(files.PathJoin(dir, complete))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cached passwords that are not valid any more may be used after a restart: %w: remove the file before", err)
	}
	return syncDir(files, dir)
}

// syncDir makes the creation and removal of files in a directory durable.
func syncDir(files vfs.FS, dir string) error {
	d, err := files.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
