package datadir

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// runtimeDir is what systemd gives the shipped unit (RuntimeDirectory=).
const runtimeDir = "/run/postern"

// Rendezvous returns the directory in which pipes and their broker meet: the data directory or,
// if its lock cannot be opened or its path is too long for a socket, a private directory of this
// user below TMPDIR, which it makes.
func Rendezvous(dir string) (string, error) {
	err := Usable(dir)
	if err == nil {
		return dir, nil
	}
	private := filepath.Join(os.TempDir(), fmt.Sprintf("postern-%d-%x", os.Getuid(), pathHash(dir)))
	if privateErr := makePrivate(private); privateErr != nil {
		return "", errors.Join(fmt.Errorf("data directory: %w", err), privateErr)
	}
	return private, nil
}

// Runtime returns the directory that a service uses in place of its data directory when it cannot
// write there. It is below the service's runtime directory, where commands of other users find
// it: the service may have a /tmp of its own.
func Runtime(dir string) string { return below(runtimeDir, dir) }

func below(runtime, dir string) string {
	return filepath.Join(runtime, fmt.Sprintf("data-%x", pathHash(dir)))
}

// Fallback returns the directory that a daemon uses for its sockets when it cannot write to its
// data directory, and makes it: Runtime or, without a runtime directory, Rendezvous.
func Fallback(dir string) (string, error) {
	if given, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); given != "" {
		if service := below(given, dir); makePrivate(service) == nil {
			return service, nil
		}
	}
	return Rendezvous(dir)
}

func pathHash(path string) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(filepath.Clean(path)))
	return hash.Sum64()
}

// makePrivate makes a directory for sockets. Its name can be guessed, so one that is there
// already must belong to this user and be closed to others.
func makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Getuid() || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("%s, which would be used instead, belongs to another user", dir)
	}
	return Usable(dir)
}

// Usable returns an error if this user cannot use dir as a data directory. It makes the
// directory and the lock file.
func Usable(dir string) error {
	if err := CheckSocketPaths(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
