package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"postern/internal/config"
	"postern/wire"
)

// Files of the directory in which relays meet their owner: the data directory, or what stands in
// for it.
const (
	relaySocket = "relay.sock"
	ownerLock   = "owner.lock" // held by the process that owns the directory, whose number is in it
)

// longestSocket is the longest path of a socket, see unix(7).
const longestSocket = 107

// relayFront is the listener for relays. Each request brings its own patience; the deadline
// here is the longest of any protocol.
func relayFront(dir string) config.Listener {
	return config.Listener{
		Name: config.PipeListener, Protocol: string(wire.Relay), Network: "unix", Address: filepath.Join(dir, relaySocket),
		Deadline: 30 * time.Second, FrameTimeout: 30 * time.Second, WriteTimeout: 10 * time.Second,
		Pipeline: 256, MaxConnections: 16384,
	}
}

// listenRelays serves relays on the private socket of a directory.
func (d *daemon) listenRelays(dir string) error {
	front := relayFront(dir)
	socket, err := listenPrivate(front.Address)
	if err != nil {
		return fmt.Errorf("socket for pipes: %w", err)
	}
	if err := d.broker.Listen(front, socket); err != nil {
		return errors.Join(err, socket.Close())
	}
	return nil
}

// relayDir is where pipes find each other: the data directory, unless its lock cannot be opened
// or its path is too long for a socket; then a private directory of this user.
func relayDir(cfg *config.Config) (string, error) {
	err := usableDir(cfg.DataDir)
	if err == nil {
		return cfg.DataDir, nil
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(cfg.DataDir))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("postern-%d-%x", os.Getuid(), hash.Sum64()))
	if mkdirErr := os.Mkdir(dir, 0o700); mkdirErr != nil && !errors.Is(mkdirErr, os.ErrExist) {
		return "", errors.Join(fmt.Errorf("data directory: %w", err), mkdirErr)
	}
	// The name can be guessed: it must be ours, and nobody else's to write in.
	info, statErr := os.Lstat(dir)
	if statErr != nil {
		return "", errors.Join(fmt.Errorf("data directory: %w", err), statErr)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Getuid() || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("data directory: %w; and %s, which would stand in for it, belongs to somebody else", err, dir)
	}
	if usableErr := usableDir(dir); usableErr != nil {
		return "", errors.Join(fmt.Errorf("data directory: %w", err), usableErr)
	}
	return dir, nil
}

// usableDir reports why pipes cannot meet in dir.
func usableDir(dir string) error {
	if err := fitsSockets(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, ownerLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// fitsSockets reports that nobody could connect to the sockets of a directory. Who makes them is
// not told: they get their names when they are there (listenUnix).
func fitsSockets(dir string) error {
	for _, name := range [...]string{relaySocket, controlSocket} {
		if path := filepath.Join(dir, name); len(path) > longestSocket {
			return fmt.Errorf("the path %s is too long for a socket: choose a shorter data_dir", path)
		}
	}
	return nil
}
