package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/term"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/xcauth"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// xcauthConfig makes the configuration of xcauth's options and of the domains in its database,
// and brings in what xcauth knew when that has not been done yet.
func (a *app) xcauthConfig(o *xcauth.Options, d *disguise) (*config.Config, error) {
	for _, w := range o.Warnings {
		d.warn(w)
	}
	if err := xcauth.CheckURL(o.URL); err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	data := new(xcauth.Data)
	switch {
	case !absent(o.DB):
		// Without its domains, passwords would be sent to the wrong server.
		if err := readSQLite(context.Background(), o.DB, data); err != nil {
			return nil, err
		}
	case o.DomainDB != "" && !absent(o.DomainDB):
		return nil, fmt.Errorf("%s is a Berkeley DB file of xcauth before version 2, with domains that must not be missed: move in with `db_dump -p` and `postern import xcauth --dump`, or remove domain-db", o.DomainDB)
	}
	for _, old := range []string{o.CacheDB, o.RosterDB} {
		if old != "" && !absent(old) && absent(o.DB) {
			d.warn(old + " is not read: it is a Berkeley DB file, see `postern import xcauth --dump`")
		}
	}
	dir, err := filepath.Abs(filepath.Join(filepath.Dir(o.DB), ownName(o.URL)))
	if err != nil {
		return nil, err
	}
	settings := *o
	w := xcauth.Writer{
		DataDir: dir, Banner: "Made of xcauth's settings at each start: changes here are lost.",
		Secret: func(_ string, secret auth.Secret) string { return xcauth.Quote(secret.Reveal()) },
	}
	if d.passing = o.Interactive || o.Test != auth.OpNone; d.passing {
		settings.Debug = true
	} else {
		w.LogFile = d.logFile(o.Log, "xcauth.log")
	}
	cfg, err := d.write(dir, w.Config(&settings, data.Domains))
	if err != nil {
		return nil, err
	}
	if err := a.importOnce(cfg, data); err != nil {
		d.warn("what xcauth remembers could not be taken over: " + err.Error())
	}
	return cfg, nil
}

// importOnce brings rows into the data directory of a configuration, the first time. Of several
// copies that start together, one does it, and the others wait.
func (a *app) importOnce(cfg *config.Config, data *xcauth.Data) error {
	if len(data.Accounts)+len(data.RosterUsers)+len(data.Groups) == 0 {
		return nil
	}
	if err := usableDir(cfg.DataDir); err != nil {
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
	if err := syscall.Flock(int(turn.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if !absent(done) {
		return nil
	}
	if _, err := a.importData(context.Background(), cfg, data, false); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o600)
}

// test makes one of xcauth's one-shot tests, and prints the answer as it does: True, False, or
// the answer of the server, None without one. What cannot be told is False.
func (d *disguise) test(o *xcauth.Options) int {
	cfg, err := d.ready()
	if err != nil {
		fmt.Fprintf(d.err, "%s: error: %v\n", d.name, err)
		return 2
	}
	ctx := context.Background()
	meet, err := relayDir(cfg)
	if err != nil {
		meet = cfg.DataDir
	}
	var reply askReply
	err = callControl(ctx, filepath.Join(meet, controlSocket), "/v1/ask", controlRequest{
		Op: o.Test.String(), User: o.User, Domain: o.Domain, Password: o.Password.Reveal(),
	}, &reply)
	if errors.Is(err, errNoDaemon) {
		reply, err = askDirectly(ctx, cfg, auth.Request{Op: o.Test, User: o.User, Domain: o.Domain, Secret: o.Password})
	}
	if err != nil {
		fmt.Fprintf(d.err, "%s: %v\n", d.name, err)
	}
	steps := *d.app
	steps.out = d.err
	steps.printReply(askReply{Verdict: reply.Verdict, Exit: reply.Exit, Source: reply.Source, Took: reply.Took, Steps: reply.Steps})
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
	return d.say(answer + "\n")
}
