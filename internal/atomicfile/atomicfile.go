// Package atomicfile replaces files as a whole. A reader, and a machine that lost its power,
// finds the old content or the new one, never a part of either: the new content is written to a
// temporary file in the same directory, flushed to disk and renamed, and then the directory is
// flushed too, without which a power failure could undo the rename.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Write replaces the file at path, or creates it. The new file has mode 0600 and belongs to the
// process. prepare, unless nil, may change mode and owner before the content is written, so that
// the content is never open to more readers than the final file. If Write fails, the old file is
// left as it was, except when the error is that of flushing the directory.
func Write(path string, data []byte, prepare func(*os.File) error) error {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	temp, err := os.CreateTemp(dir, "."+strings.TrimPrefix(base, ".")+".*.tmp")
	if err != nil {
		return err
	}
	if prepare != nil {
		err = prepare(temp)
	}
	if err == nil {
		_, err = temp.Write(data)
	}
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return syncDir(dir)
}

// syncDir flushes the entries of a directory to disk.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
