package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"postern/cmd/internal/relay"
	"postern/internal/config"
	"postern/internal/filelock"
)

// Times of ownership.
const (
	ownerPoll    = 5 * time.Millisecond
	ownerWait    = 15 * time.Second // for an owner that was asked to yield
	relayLinger  = time.Second      // after the last relay
	relayArrival = 5 * time.Second  // of the first one
)

// yieldReply is the answer to /v1/yield.
type yieldReply struct {
	Yields bool `json:"yields"`
	PID    int  `json:"pid"`
}

// ownerCommand is how a relay starts an owner.
func (a *app) ownerCommand(cfg *config.Config, dir string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program itself: %w", err)
	}
	command := []string{self, "serve", "--for-relays", "--lock-fd", strconv.Itoa(relay.LockFD)}
	if dir != cfg.DataDir {
		command = append(command, "--relay-dir", dir)
	}
	if a.embedded {
		return append(command, "--embedded", "--data-dir", cfg.DataDir), nil
	}
	file, err := filepath.Abs(a.configFile)
	return append(command, "--config", file), err
}

// errOwned means that a daemon owns a data directory and keeps it.
var errOwned = errors.New("stop it first")

// takeOwnership takes the lock of a directory, so that there is one process that serves its store and its
// relays. fd is the descriptor on which a relay hands it over, or 0. An owner that relays have
// started yields to us; a daemon does not.
func takeOwnership(ctx context.Context, dir string, fd int) (*os.File, error) {
	lock, err := openLock(dir, fd)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(ownerWait); ; time.Sleep(ownerPoll) {
		err := filelock.TryLock(lock)
		if err == nil {
			break
		}
		if !errors.Is(err, filelock.ErrLocked) {
			_ = lock.Close()
			return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		var reply yieldReply
		err = callControl(ctx, filepath.Join(dir, controlSocket), "/v1/yield", controlRequest{}, &reply)
		if err == nil && !reply.Yields || time.Now().After(end) {
			_ = lock.Close()
			if reply.PID == 0 {
				return nil, fmt.Errorf("another postern holds %s and does not answer: stop the other postern first", lock.Name())
			}
			return nil, fmt.Errorf("another postern (process %d) owns the data directory %s: %w", reply.PID, dir, errOwned)
		}
	}
	syscall.CloseOnExec(int(lock.Fd()))
	if err := lock.Truncate(0); err == nil {
		_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return lock, nil
}

// tryOwnership takes the lock of a directory if nobody holds it at this moment.
func tryOwnership(dir string) (*os.File, error) {
	lock, err := openLock(dir, 0)
	if err != nil {
		return nil, err
	}
	if err := filelock.TryLock(lock); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return lock, nil
}

func openLock(dir string, fd int) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if fd == 0 {
		lock, err := os.OpenFile(filepath.Join(dir, ownerLock), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("data directory: %w: make it writable for the user that postern runs as", err)
		}
		if uid, gid, found := heir(dir); found {
			_ = lock.Chown(uid, gid) // at once: whatever becomes of us, the daemon must be able to start
		}
		return lock, nil
	}
	lock := os.NewFile(uintptr(fd), ownerLock)
	if lock == nil {
		return nil, fmt.Errorf("--lock-fd %d is not an open file", fd)
	}
	return lock, nil
}

// untilAlone returns when no relay has been connected for a while.
func (d *daemon) untilAlone(ctx context.Context) {
	tick := time.NewTicker(relayLinger / 4)
	defer tick.Stop()
	alone, known := time.Now().Add(relayArrival-relayLinger), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if open, ever := d.broker.Connections(); open > 0 || ever > known {
				alone, known = now, ever
			} else if now.Sub(alone) >= relayLinger {
				return
			}
		}
	}
}
