package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"postern/internal/config"
)

// configuration returns the chain of the configuration, with what its parser complained of.
func (e *Env) configuration(s Subject) Chain {
	file, cfg, problems := s.File, s.Config, s.Problems
	return Chain{"configuration", []Step{{Check: "text", Run: func(context.Context) []Outcome {
		var out []Outcome
		for _, p := range problems {
			status := Failure
			if p.Severity == config.Warning {
				status = Warning
			}
			place := p.File
			if p.Line > 0 {
				place = fmt.Sprintf("%s:%d", p.File, p.Line)
			}
			cure := p.Cure
			if cure == "" {
				cure = "correct the line"
			}
			if s, ok := e.service(); p.Denied && ok && s.uid != e.UID { // this user need not read it
				status, cure = Skipped, e.cure.doctor()
			}
			out = append(out, Outcome{status, place + ": " + p.Message, cure})
		}
		if cfg == nil {
			return out
		}
		return append(out, fine("%s: %s, %s, %s", named(file), plural(len(cfg.Listeners), "listener"),
			plural(len(cfg.Backends), "backend"), plural(len(cfg.Domains), "domain"))...)
	}}, {Check: "notes", Alone: true, Run: func(context.Context) (out []Outcome) {
		if cfg == nil {
			return nil
		}
		for _, note := range cfg.Notes() {
			out = append(out, fine("%s", note)...)
		}
		return out
	}}, {Check: "mode", Alone: true, Run: func(context.Context) []Outcome { return e.configMode(file, cfg) }}, e.serviceUser(s.Service, file, cfg)}}
}

// configMode checks that not every user can change the configuration, and that the owner of the
// data directory can read it.
func (e *Env) configMode(file string, cfg *config.Config) []Outcome {
	if file == "" {
		return nil
	}
	f, err := e.Stat(file)
	if err != nil {
		return nil // the parser has reported it
	}
	if f.Mode.Perm()&0o002 != 0 {
		return fail("every user of this machine can change "+file, "chmod o-w "+file)
	}
	if cfg == nil {
		return nil
	}
	data, err := e.Stat(cfg.DataDir)
	if err != nil {
		return nil
	}
	owner := e.runsAs(data)
	name := e.UserName(owner.uid)
	if dir := e.closed(file, owner); dir != "" {
		return fail(fmt.Sprintf("%s, which postern runs as, cannot enter %s to read the configuration", name, dir), "chmod o+x "+dir)
	}
	if !f.may(owner, mayRead) {
		return fail(fmt.Sprintf("%s, which postern runs as, cannot read %s", name, file), fmt.Sprintf("chgrp it to a group of %s and chmod 0640 it", name))
	}
	return fine("readable for %s", name)
}

// files returns the chain of the data directory, the files in it, and the log.
func (e *Env) files(cfg *config.Config, d *Daemon) Chain {
	return Chain{"files", []Step{
		{Check: "data-dir", Run: func(context.Context) []Outcome { return e.dataDir(cfg.DataDir) }},
		{Check: "owner", Run: func(context.Context) []Outcome { return e.owner(cfg.DataDir) }},
		{Check: "free-space", Alone: true, Run: func(context.Context) []Outcome { return e.space(cfg.DataDir) }},
		{Check: "log", Alone: true, Run: func(context.Context) []Outcome { return e.logFile("log", cfg.Log.File, cfg) }},
		{Check: "audit", Alone: true, Run: func(context.Context) []Outcome { return e.logFile("audit log", cfg.Audit.File, cfg) }},
		{Check: "open-files", Alone: true, Run: func(context.Context) []Outcome { return e.openFiles(cfg, d) }},
	}}
}

func (e *Env) dataDir(dir string) []Outcome {
	f, err := e.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if !e.cure.service {
			return warn(dir+" does not exist yet", "start postern, which creates it: "+e.cure.start())
		}
		return warn(dir+" does not exist yet", "start postern, which creates it, or create it for the user that postern runs as: install -d -m 0711 -o "+e.cure.owner+" -g "+e.cure.owner+" "+dir)
	case err != nil:
		return fail(fmt.Sprintf("%s cannot be examined: %v", dir, cause(err)), e.cure.doctor())
	case !f.Mode.IsDir():
		return fail(dir+" is not a directory", "move it away, or name another data_dir")
	case f.Mode.Perm()&0o022 != 0:
		return fail(fmt.Sprintf("other users can write to %s (mode %04o): they could replace the store or the users file", dir, f.Mode.Perm()),
			"chmod go-w "+dir)
	}
	return fine("%s has mode %04o", dir, f.Mode.Perm())
}

// owner checks that doctor runs as the owner of the data directory. Another user sees less, and
// root more, than the daemon.
func (e *Env) owner(dir string) []Outcome {
	f, err := e.Stat(dir)
	if err != nil {
		return nil
	}
	if bad, yes := e.misowned(dir); yes {
		return bad
	}
	name := e.UserName(f.UID)
	if f.UID != e.UID {
		return warn(fmt.Sprintf("%s belongs to %s, but doctor runs as %s and cannot check everything that %s may do", dir, name, e.UserName(e.UID), name),
			e.cure.doctor())
	}
	return fine("%s belongs to %s, the user that doctor runs as", dir, name)
}

// Free space, in bytes, below which there is a warning and a failure.
const (
	littleSpace = 100 << 20
	noSpace     = 4 << 20
)

func (e *Env) space(dir string) []Outcome {
	n, err := e.Free(e.existing(dir))
	switch {
	case err != nil:
		return skip(fmt.Sprintf("the free space is not known: %v", cause(err)), "")
	case n < noSpace:
		return fail(fmt.Sprintf("%s has %s left: the cache cannot be written", dir, size(n)), "free disk space there")
	case n < littleSpace:
		return warn(fmt.Sprintf("%s has %s left", dir, size(n)), "free disk space there: after a write error on a full disk the store is not used until a restart")
	}
	return fine("%s has %s left", dir, size(n))
}

// logFile looks whether the daemon can write a log.
func (e *Env) logFile(what, file string, cfg *config.Config) []Outcome {
	if file == "" {
		return nil
	}
	dir := filepath.Dir(file)
	d, err := e.Stat(dir)
	if err != nil {
		return fail(fmt.Sprintf("the directory of the %s, %s: %v", what, dir, cause(err)), "create it for the user that postern runs as: install -d -m 0750 -o "+e.cure.owner+" -g "+e.cure.owner+" "+dir)
	}
	data, err := e.Stat(cfg.DataDir)
	if err != nil {
		return nil
	}
	owner := e.runsAs(data)
	at, bits := d, fs.FileMode(mayWrite|mayEnter)
	if f, err := e.Stat(file); err == nil {
		at, bits = f, mayWrite
	}
	if !at.may(owner, bits) {
		return fail(fmt.Sprintf("%s cannot write %s", e.UserName(owner.uid), file), fmt.Sprintf("chown %s %s", e.UserName(owner.uid), dir))
	}
	return fine("%s", file)
}

// openFiles compares each listener's max_connections with the limit of open files.
func (e *Env) openFiles(cfg *config.Config, d *Daemon) []Outcome {
	pid, subject := 0, "of this shell"
	if d.Info != nil {
		pid, subject = d.Info.PID, "of the daemon"
	}
	limit, err := e.MaxFiles(pid)
	if err != nil {
		return skip(fmt.Sprintf("the limit %s is not known: %v", subject, cause(err)), "")
	}
	const others = 512 // files of the store, sockets to backends and so on
	var over []string
	for _, l := range cfg.Listeners {
		if uint64(l.MaxConnections)+others > limit {
			over = append(over, fmt.Sprintf("%q (%d)", l.Name, l.MaxConnections))
		}
	}
	if len(over) > 0 {
		return warn(fmt.Sprintf("the limit %s is %d open files, less than max_connections of %s", subject, limit, strings.Join(over, ", ")),
			"raise LimitNOFILE= of the service, or lower max_connections")
	}
	return fine("the limit %s is %d", subject, limit)
}

// storage returns the chain of the store; it has no steps if nothing is stored on disk. What a
// daemon says of its store is reported even if the disk is not writable: the daemon must be
// restarted once it is.
func (e *Env) storage(cfg *config.Config, dir string, d *Daemon) Chain {
	c := Chain{Hop: "store"}
	if cfg.Store.Kind != "" {
		c.Steps = []Step{{Check: "shared", Alone: true, Run: func(context.Context) []Outcome { return e.sharedStore(&cfg.Store) }}}
	} else if cfg.NeedsStore() {
		c.Steps = []Step{
			{Check: "mode", Alone: true, Run: func(context.Context) []Outcome { return e.storeMode(dir) }},
			{Check: "writable", Run: func(context.Context) []Outcome { return e.writable(cfg.DataDir) }},
			{Check: "open", Alone: d.Info != nil, Run: func(context.Context) []Outcome { return e.store(dir, d) }},
		}
	}
	return c
}

// storeMode checks that only the owner can read the store, which has password hashes and the
// secrets of registered domains.
func (e *Env) storeMode(dir string) []Outcome {
	f, err := e.Stat(dir)
	if err != nil {
		return nil // it does not exist, or the next checks say why it cannot be examined
	}
	if f.Mode.Perm()&0o077 != 0 {
		return fail(fmt.Sprintf("other users can enter %s (mode %04o), which holds secrets of domains and password hashes", dir, f.Mode.Perm()),
			"chmod 0700 "+dir)
	}
	return fine("%s has mode %04o", dir, f.Mode.Perm())
}

// writable writes a file, but only as the owner: the owner could not replace a file of root's.
func (e *Env) writable(dir string) []Outcome {
	f, err := e.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil || f.UID != e.UID:
		return skip("not tried, because "+dir+" belongs to another user", "")
	}
	if err := e.Probe(dir); err != nil {
		return fail(fmt.Sprintf("%s is not writable: %v", dir, cause(err)),
			"make it writable for the user that postern runs as, and check for a full or read-only disk (ReadWritePaths= in the service)")
	}
	return fine("%s is writable", dir)
}

// store takes the daemon's word for its store, or opens it if there is no daemon.
func (e *Env) store(dir string, d *Daemon) []Outcome {
	if d.Info != nil {
		switch {
		case d.Info.StoreFailed != "":
			return fail("the daemon's store has failed, and it works from memory: "+d.Info.StoreFailed, "repair the disk, then restart postern")
		case !d.Info.Store:
			return fail("the daemon could not open its store, and works from memory", "its log says why; correct that, then restart postern") // a reload need not help: a failed open may hold the lock
		}
		return fine("in use by the daemon")
	}
	f, err := e.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fine("%s does not exist yet", dir)
	case err != nil || f.UID != e.UID:
		return skip("not opened, because "+dir+" belongs to another user", "")
	case d.Err != nil:
		return skip("not opened, because a daemon may be using it", "")
	}
	if err := e.OpenDisk(dir); err != nil {
		return fail(fmt.Sprintf("the store cannot be opened: %v", err),
			"stop the program that uses it; if it is damaged, move "+dir+" away: logins fill it again, and registered domains can be imported from a list of `postern domain export`")
	}
	return fine("%s can be opened", dir)
}
