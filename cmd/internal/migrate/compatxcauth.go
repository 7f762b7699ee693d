package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/pipe"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/filelock"
	"postern/internal/xcauth"
)

// xcauthConfig makes the configuration from xcauth's options and the domains in its database, and
// imports what xcauth knew unless that has been done already.
func (c *compat) xcauthConfig(o *xcauth.Options) (*config.Config, error) {
	for _, w := range o.Warnings {
		c.warn(w)
	}
	if err := xcauth.CheckURL(o.URL); err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	data := new(xcauth.Data)
	switch {
	case !absent(o.DB):
		// Without these domains, passwords would be sent to the wrong server.
		if err := readSQLite(context.Background(), o.DB, data); err != nil {
			return nil, err
		}
	case o.DomainDB != "" && !absent(o.DomainDB):
		return nil, fmt.Errorf("%s is a Berkeley DB file of xcauth before version 2, with domains that must not be missed: move in with `db_dump -p` and `postern import xcauth --dump`, or remove domain-db", o.DomainDB)
	case o.DomainConfig != "" && !absent(o.DomainConfig):
		return nil, domainConfigError(o.DomainConfig)
	}
	for _, old := range []string{o.CacheDB, o.RosterDB} {
		if old != "" && !absent(old) && absent(o.DB) {
			c.warn(old + " is not read: it is a Berkeley DB file, see `postern import xcauth --dump`")
		}
	}
	dir, err := filepath.Abs(filepath.Join(filepath.Dir(o.DB), ownName(o.URL)))
	if err != nil {
		return nil, err
	}
	settings := *o
	w := xcauth.Writer{
		DataDir: dir, Banner: "Made of xcauth's settings at each start: changes here are lost.",
		Secret: func(_ string, secret auth.Secret) string { return config.Quote(secret.Reveal()) },
	}
	if c.ownLog = o.Interactive || o.Test != auth.OpNone; c.ownLog {
		settings.Debug = true
	} else {
		w.LogFile = c.logFile(o.Log, "xcauth.log")
		c.dump = filepath.Join(o.Log, "xcauth.err")
	}
	cfg, err := c.write(dir, w.Config(&settings, data.Domains))
	if err != nil {
		return nil, err
	}
	if err := importOnce(c.Stdio, cfg, data); err != nil {
		c.warn("what xcauth remembers could not be taken over: " + err.Error())
	}
	return cfg, nil
}

// domainConfigError refuses to go on without the domains in a file of per-domain-config: their
// passwords would be sent to the wrong server.
func domainConfigError(file string) error {
	return fmt.Errorf("%s (per-domain-config) lists domains that must not be missed, and is not read: enter them into xcauth's database, or register them by `postern domain add` with a configuration of postern's; then remove per-domain-config", file)
}

// importOnce imports rows into the data directory of a configuration, the first time. Of several
// copies that start together, one imports and the others wait.
func importOnce(std pipe.Stdio, cfg *config.Config, data *xcauth.Data) error {
	if len(data.Accounts)+len(data.RosterUsers)+len(data.Groups) == 0 {
		return nil
	}
	if err := datadir.Usable(cfg.DataDir); err != nil {
		return fmt.Errorf("data directory: %w: make %s writable", err, filepath.Dir(cfg.DataDir))
	}
	done := filepath.Join(cfg.DataDir, "imported")
	if !absent(done) {
		return nil
	}
	turn, err := os.OpenFile(filepath.Join(cfg.DataDir, "import.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer turn.Close()
	if err := filelock.Lock(context.Background(), turn); err != nil {
		return err
	}
	if !absent(done) {
		return nil
	}
	m := importer{cfg: cfg, now: time.Now()}
	if err := m.run(context.Background(), std, data); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o600)
}

// test makes one of xcauth's tests from the command line and prints the answer as xcauth does:
// True, False, or the roster that the server returned, None without one. A temporary failure is
// False.
func (c *compat) test(o *xcauth.Options) int {
	cfg, err := c.ready()
	if err != nil {
		fmt.Fprintf(c.Err, "%s: error: %v\n", c.name, err)
		return 2
	}
	ctx := context.Background()
	meeting, err := datadir.Rendezvous(cfg.DataDir)
	if err != nil {
		meeting = cfg.DataDir
	}
	req := auth.Request{Op: o.Test, User: o.User, Domain: o.Domain, Secret: o.Password}
	reply, err := control.AskDaemon(ctx, filepath.Join(meeting, datadir.ControlSocket), req)
	if errors.Is(err, control.ErrNoDaemon) {
		reply, err = admin.AskDirectly(ctx, cfg, req)
	}
	if err != nil {
		fmt.Fprintf(c.Err, "%s: %v\n", c.name, err)
	}
	way := reply
	way.Body = ""
	way.Print(c.Err)
	answer := "False"
	yes := err == nil && reply.Verdict == auth.Allow.String()
	switch {
	case o.Test == auth.OpRoster && yes:
		answer = reply.Body
	case o.Test == auth.OpRoster:
		answer = "None"
	case yes:
		answer = "True"
	}
	return c.print(answer + "\n")
}
