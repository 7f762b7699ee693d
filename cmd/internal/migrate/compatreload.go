package migrate

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/internal/config"
)

// Bounds of the reload of a broker that another copy has started.
const (
	writeTries    = 3                       // if other copies write at the same time
	reloadTimeout = 1500 * time.Millisecond // the first question may be waiting already
	reloadPoll    = 20 * time.Millisecond
)

// ready writes the configuration, and reloads a broker that runs with an older one: it would send
// the passwords of a new domain to the server of another.
func (c *compat) ready() (cfg *config.Config, err error) {
	rewritten := false
	for range writeTries {
		c.rewritten = false
		cfg, err = c.prepare()
		if !c.rewritten {
			break
		}
		// Another copy may have read newer settings, and written before this one.
		rewritten = true
	}
	if rewritten {
		c.reload(filepath.Dir(c.flags.File))
	}
	return cfg, err
}

// reload reloads the broker that meets pipes in a directory, if there is one.
func (c *compat) reload(meeting string) {
	ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
	defer cancel()
	for {
		err := control.Call(ctx, filepath.Join(meeting, datadir.ControlSocket), "/v1/reload", control.Request{}, new(control.ReloadReply))
		switch {
		case errors.Is(err, control.ErrNoDaemon) && datadir.Owned(meeting): // it is starting, perhaps with the older configuration
		case err != nil && !errors.Is(err, control.ErrNoDaemon):
			c.warn("the broker that runs already may go on with the settings of before: " + err.Error())
			return
		default:
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reloadPoll):
		}
	}
}

// sameButLog reports whether a text is the same configuration except for the log.
func sameButLog(file string, text []byte, cfg *config.Config) bool {
	was, err := parse(file, text)
	if err != nil {
		return false
	}
	changes := config.Diff(was, cfg)
	changes.Log = false
	return changes.Empty()
}
