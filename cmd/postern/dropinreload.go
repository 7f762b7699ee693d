package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"postern/internal/config"
	"postern/internal/filelock"
)

// Bounds of what a copy does for the broker that others have started.
const (
	tellTries = 3                       // to write what nobody has written over
	tellWait  = 1500 * time.Millisecond // before the first question, whose time runs
	tellPause = 20 * time.Millisecond
)

// ready prepares, and has a broker that runs already read what it had not been told: passwords for
// a domain that came since would go to another's server.
func (d *disguise) ready() (cfg *config.Config, err error) {
	rewritten := false
	for range tellTries {
		d.rewritten = false
		cfg, err = d.prepare()
		if !d.rewritten {
			break
		}
		// Another copy may have looked at the settings after us, and written before us.
		rewritten = true
	}
	if rewritten {
		d.tell(filepath.Dir(d.configFile))
	}
	return cfg, err
}

// tell has the broker of a directory reload, if there is one.
func (d *disguise) tell(meet string) {
	ctx, cancel := context.WithTimeout(context.Background(), tellWait)
	defer cancel()
	for {
		var reply reloadReply
		err := callControl(ctx, filepath.Join(meet, controlSocket), "/v1/reload", controlRequest{}, &reply)
		switch {
		case errors.Is(err, errNoDaemon) && owned(meet): // it starts, perhaps with what was there before
		case err != nil && !errors.Is(err, errNoDaemon):
			d.warn("the broker that runs already may go on with the settings of before: " + err.Error())
			return
		default:
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tellPause):
		}
	}
}

// owned reports whether somebody holds the lock of a directory.
func owned(dir string) bool {
	lock, err := os.Open(filepath.Join(dir, ownerLock))
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(filelock.TryRLock(lock), filelock.ErrLocked)
}

// sameButLog reports whether a text makes a configuration with at most another log.
func sameButLog(file string, text []byte, cfg *config.Config) bool {
	env := config.OSEnv()
	env.Stat = nil
	was, problems := config.Parse(file, text, env)
	if problems.Failed() {
		return false
	}
	changes := config.Diff(was, cfg)
	changes.Log = false
	return changes.Empty()
}
