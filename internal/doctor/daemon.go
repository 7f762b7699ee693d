package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"postern/internal/config"
)

// Daemon is the state of the control socket: Info if a daemon answers, Err if one is there but
// does not answer, and neither if there is none.
type Daemon struct {
	Info *Info
	Err  error
}

// ErrOldDaemon is the error for a daemon that does not know the request for Info.
var ErrOldDaemon = errors.New("the daemon is of an older version")

// Info is a daemon's description of itself.
type Info struct {
	Version     string    `json:"version"`
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Config      string    `json:"config"` // file; empty for the built-in one
	Loaded      time.Time `json:"loaded"` // when the configuration in force was read
	ForPipes    bool      `json:"for_pipes"`
	Listeners   []string  `json:"listeners"`    // names of those it serves
	Metrics     string    `json:"metrics"`      // address; empty if they are not served
	Pending     []string  `json:"pending"`      // what a reload would change
	Unloadable  string    `json:"unloadable"`   // why a reload would fail
	Store       bool      `json:"store"`        // it uses a store on disk
	StoreFailed string    `json:"store_failed"` // why the store is not used any more

	// AppPasswords are those in the store, by the name of the backend block.
	AppPasswords map[string]AppPasswords `json:"app_passwords,omitempty"`
}

// AppPasswords counts those of the domains of a backend block.
type AppPasswords struct {
	Alive      int `json:"alive"`      // neither revoked nor expired
	OtherKey   int `json:"other_key"`  // of them, under another key than the block's
	Unreadable int `json:"unreadable"` // records
}

// daemon returns the chain of the daemon.
func (e *Env) daemon(cfg *config.Config, d *Daemon, version, file string) Chain {
	return Chain{"daemon", []Step{
		{Check: "running", Run: func(context.Context) []Outcome { return e.running(cfg, d) }},
		{Check: "version", Alone: true, Run: func(context.Context) []Outcome { return e.version(d, version) }},
		{Check: "loaded", Alone: true, Run: func(context.Context) []Outcome { return e.loaded(d, file) }},
	}}
}

func (e *Env) running(cfg *config.Config, d *Daemon) []Outcome {
	if _, yes := e.misowned(cfg.DataDir); yes && d.Info == nil {
		return skip("not asked, because the data directory is not that of its user", "")
	}
	waiting := slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool { return l.Network != "systemd" })
	switch {
	case errors.Is(d.Err, ErrOldDaemon):
		return fine("a daemon answers")
	case errors.Is(d.Err, fs.ErrPermission):
		return fail("a daemon may be running, but "+e.UserName(e.UID)+" may not connect to it", e.cure.doctor())
	case d.Err != nil:
		return fail(fmt.Sprintf("a daemon is running, but does not answer: %v", d.Err), "see its log; "+e.cure.restart())
	case d.Info == nil && waiting:
		return fail("no daemon is running, so no listener is served", "start it: "+e.cure.start())
	case d.Info == nil:
		return fine("no daemon is running; none is needed before the first request")
	case d.Info.ForPipes && waiting:
		return fail("only a broker that `postern pipe` started is running: it serves no listener", "start the daemon: "+e.cure.start())
	}
	return fine("process %d, since %s", d.Info.PID, d.Info.Started.Local().Format(time.DateTime))
}

func (e *Env) version(d *Daemon, own string) []Outcome {
	cure := e.cure.restart()
	switch {
	case errors.Is(d.Err, ErrOldDaemon):
		return warn("the daemon is of an older version than this program ("+own+")", cure)
	case d.Info == nil:
		return nil
	case d.Info.Version != own:
		return warn(fmt.Sprintf("the daemon is version %s, this program is %s", d.Info.Version, own), cure)
	}
	return fine("%s", own)
}

// loaded reports whether the daemon uses the configuration that is examined.
func (e *Env) loaded(d *Daemon, file string) []Outcome {
	switch {
	case d.Info == nil:
		return nil
	case d.Info.Config != file:
		return warn(fmt.Sprintf("the daemon uses %s, but doctor examines %s", named(d.Info.Config), named(file)),
			"name the daemon's configuration with --config")
	case d.Info.Unloadable != "":
		return fail("the daemon cannot read its configuration again, and would not start with it: "+d.Info.Unloadable, "correct it, then "+e.cure.reload())
	case len(d.Info.Pending) > 0:
		return warn(fmt.Sprintf("the configuration has changed since the daemon read it at %s: %s",
			d.Info.Loaded.Local().Format(time.DateTime), strings.Join(d.Info.Pending, ", ")), e.cure.reload())
	}
	return fine("the daemon uses the current configuration, read %s", d.Info.Loaded.Local().Format(time.DateTime))
}

func named(file string) string {
	if file == "" {
		return "the built-in configuration"
	}
	return file
}
