package backend

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"postern/internal/scram"
)

// OpenSeed reads the seed of SCRAM from the file at path, and makes one if there is none. A new file belongs to the owner
// of its directory, so that a daemon can read what root has made. The errors say why that is not possible.
func OpenSeed(path string) (*scram.Seed, error) {
	seed, err := ReadSeed(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return seed, err
	}
	if err := makeSeed(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("seed of SCRAM: %w", err)
	}
	return ReadSeed(path)
}

// ReadSeed reads the seed of SCRAM from the file at path. The error wraps fs.ErrNotExist if there is none.
func ReadSeed(path string) (*scram.Seed, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("seed of SCRAM: %w", err)
	}
	if len(data) != scram.SeedSize {
		return nil, fmt.Errorf("seed of SCRAM: %s has %d bytes, not %d: restore it, or remove it, and all SCRAM keys are made anew at logins by PLAIN", path, len(data), scram.SeedSize)
	}
	return (*scram.Seed)(data), nil
}

// makeSeed makes the file. If another process does so at the same time, the error is fs.ErrExist.
func makeSeed(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	owner, err := os.Stat(dir)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".scram.*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	seed := make([]byte, scram.SeedSize)
	_, _ = rand.Read(seed) // never fails, see crypto/rand
	err = giveTo(temp, owner)
	if err == nil {
		_, err = temp.Write(seed)
	}
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return err
	}
	return os.Link(temp.Name(), path)
}
