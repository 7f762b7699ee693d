package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
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
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("postern-%d-%x", os.Getuid(), pathHash(cfg.DataDir)))
	if standInErr := privateDir(dir); standInErr != nil {
		return "", errors.Join(fmt.Errorf("data directory: %w", err), standInErr)
	}
	return dir, nil
}

// runtimeDir is what systemd gives the shipped unit (RuntimeDirectory=).
var runtimeDir = "/run/postern"

// runtimeStandIn is what stands in for a data directory below a service's runtime directory: it is
// found by commands of other users, and from outside of the service's own /tmp.
func runtimeStandIn(runtime string, cfg *config.Config) string {
	return filepath.Join(runtime, fmt.Sprintf("data-%x", pathHash(cfg.DataDir)))
}

// standInDir is where commands find a daemon that cannot write its data directory.
func standInDir(cfg *config.Config) (string, error) {
	if given, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); given != "" {
		if dir := runtimeStandIn(given, cfg); privateDir(dir) == nil {
			return dir, nil
		}
	}
	return relayDir(cfg)
}

func pathHash(path string) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(filepath.Clean(path)))
	return hash.Sum64()
}

// privateDir makes a directory in which pipes can meet. Its name can be guessed: it must be ours,
// and nobody else's to write in.
func privateDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Getuid() || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("%s, which would stand in for it, belongs to somebody else", dir)
	}
	return usableDir(dir)
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
