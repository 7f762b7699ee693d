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

// configuration is the chain that tells what a configuration's reader said. file is empty for the
// built-in one.
func (e *Env) configuration(file string, cfg *config.Config, problems config.Problems) Chain {
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
			out = append(out, Outcome{status, place + ": " + p.Message, cure})
		}
		if cfg == nil {
			return out
		}
		name := file
		if name == "" {
			name = "the built-in configuration"
		}
		return append(out, fine("%s: %s, %s, %s", name, plural(len(cfg.Listeners), "listener"),
			plural(len(cfg.Backends), "backend"), plural(len(cfg.Domains), "domain"))...)
	}}, {Check: "mode", Alone: true, Run: func(context.Context) []Outcome { return e.configMode(file, cfg) }}}}
}

// configMode looks for who may change the configuration, and whether the owner of the data
// directory may read it.
func (e *Env) configMode(file string, cfg *config.Config) []Outcome {
	if file == "" {
		return nil
	}
	f, err := e.Stat(file)
	if err != nil {
		return nil // the reader has said so
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
	owner := e.ownerOf(data)
	if dir := e.closed(file, owner); dir != "" {
		return fail(fmt.Sprintf("%s, who owns data_dir, cannot get through %s to the configuration", e.UserName(data.UID), dir), "chmod o+x "+dir)
	}
	if !f.may(owner, mayRead) {
		return fail(fmt.Sprintf("%s, who owns data_dir, cannot read %s", e.UserName(data.UID), file),
			fmt.Sprintf("chgrp it to a group of %s and chmod 0640 it", e.UserName(data.UID)))
	}
	return fine("readable for %s", e.UserName(data.UID))
}

// files is the chain of the data directory, the files in it, and the log.
func (e *Env) files(cfg *config.Config, d *Daemon) Chain {
	return Chain{"files", []Step{
		{Check: "data-dir", Run: func(context.Context) []Outcome { return e.dataDir(cfg.DataDir) }},
		{Check: "owner", Run: func(context.Context) []Outcome { return e.owner(cfg.DataDir) }},
		{Check: "free-space", Alone: true, Run: func(context.Context) []Outcome { return e.space(cfg.DataDir) }},
		{Check: "log", Alone: true, Run: func(context.Context) []Outcome { return e.logFile(cfg) }},
		{Check: "open-files", Alone: true, Run: func(context.Context) []Outcome { return e.openFiles(cfg, d) }},
	}}
}

func (e *Env) dataDir(dir string) []Outcome {
	f, err := e.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return warn(dir+" is not there yet", "start postern, which makes it, or make it for the user that postern runs as: install -d -m 0711 -o postern -g postern "+dir)
	case err != nil:
		return fail(fmt.Sprintf("%s cannot be looked at: %v", dir, cause(err)), "run doctor as the user that postern runs as: sudo -u postern postern doctor")
	case !f.Mode.IsDir():
		return fail(dir+" is no directory", "move it away, or name another data_dir")
	case f.Mode.Perm()&0o022 != 0:
		return fail(fmt.Sprintf("others can write to %s (mode %04o): they could put a store or a users file of their own there", dir, f.Mode.Perm()),
			"chmod go-w "+dir)
	}
	return fine("%s has mode %04o", dir, f.Mode.Perm())
}

// owner finds a data directory that is not ours: then much cannot be told from here, or by root
// only what root may do.
func (e *Env) owner(dir string) []Outcome {
	f, err := e.Stat(dir)
	if err != nil {
		return nil
	}
	name := e.UserName(f.UID)
	if f.UID != e.UID {
		return warn(fmt.Sprintf("%s belongs to %s, but doctor runs as %s and cannot tell what %s may do", dir, name, e.UserName(e.UID), name),
			fmt.Sprintf("run it as the user that postern runs as: sudo -u %s postern doctor", name))
	}
	return fine("%s belongs to %s, as whom doctor runs", dir, name)
}

// The free space of a disk that is too little, and that is soon, in bytes.
const (
	littleSpace = 100 << 20
	noSpace     = 4 << 20
)

func (e *Env) space(dir string) []Outcome {
	n, err := e.Free(e.existing(dir))
	switch {
	case err != nil:
		return skip(fmt.Sprintf("the free space cannot be told: %v", cause(err)), "")
	case n < noSpace:
		return fail(fmt.Sprintf("%s has %s left: the cache cannot be kept", dir, size(n)), "make room there")
	case n < littleSpace:
		return warn(fmt.Sprintf("%s has %s left", dir, size(n)), "make room there: a store that meets a full disk is not used again until a restart")
	}
	return fine("%s has %s left", dir, size(n))
}

func (e *Env) logFile(cfg *config.Config) []Outcome {
	file := cfg.Log.File
	if file == "" {
		return nil
	}
	dir := filepath.Dir(file)
	d, err := e.Stat(dir)
	if err != nil {
		return fail(fmt.Sprintf("the directory of the log, %s: %v", dir, cause(err)), "make it for the user that postern runs as: install -d -m 0750 -o postern -g postern "+dir)
	}
	data, err := e.Stat(cfg.DataDir)
	if err != nil {
		return nil
	}
	owner := e.ownerOf(data)
	what, bits := d, fs.FileMode(mayWrite|mayEnter)
	if f, err := e.Stat(file); err == nil {
		what, bits = f, mayWrite
	}
	if !what.may(owner, bits) {
		return fail(fmt.Sprintf("%s cannot write %s", e.UserName(data.UID), file), fmt.Sprintf("chown %s %s", e.UserName(data.UID), dir))
	}
	return fine("%s", file)
}

// openFiles compares each listener's max_connections with what the process may open.
func (e *Env) openFiles(cfg *config.Config, d *Daemon) []Outcome {
	pid, whose := 0, "of this shell"
	if d.Info != nil {
		pid, whose = d.Info.PID, "of the daemon"
	}
	limit, err := e.MaxFiles(pid)
	if err != nil {
		return skip(fmt.Sprintf("the limit %s cannot be told: %v", whose, cause(err)), "")
	}
	const others = 512 // the store's files, and some
	var over []string
	for _, l := range cfg.Listeners {
		if uint64(l.MaxConnections)+others > limit {
			over = append(over, fmt.Sprintf("%q (%d)", l.Name, l.MaxConnections))
		}
	}
	if len(over) > 0 {
		return warn(fmt.Sprintf("the limit %s is %d open files, less than max_connections of %s", whose, limit, strings.Join(over, ", ")),
			"raise LimitNOFILE= of the service, or lower max_connections")
	}
	return fine("the limit %s is %d", whose, limit)
}

// storage is the chain of what is kept on disk; it is empty if nothing is. A daemon tells of its
// store though the disk cannot be written: it has to be restarted when that can be.
func (e *Env) storage(cfg *config.Config, dir string, d *Daemon) Chain {
	c := Chain{Hop: "store"}
	if cfg.NeedsStore() {
		c.Steps = []Step{
			{Check: "mode", Alone: true, Run: func(context.Context) []Outcome { return e.storeMode(dir) }},
			{Check: "writable", Run: func(context.Context) []Outcome { return e.writable(cfg.DataDir) }},
			{Check: "open", Alone: d.Info != nil, Run: func(context.Context) []Outcome { return e.store(dir, d) }},
		}
	}
	return c
}

// storeMode looks for who else may read the secrets of registered domains, and password hashes.
func (e *Env) storeMode(dir string) []Outcome {
	f, err := e.Stat(dir)
	if err != nil {
		return nil // it is not there, or the next checks tell why it cannot be looked at
	}
	if f.Mode.Perm()&0o077 != 0 {
		return fail(fmt.Sprintf("other users may look into %s (mode %04o), which holds secrets of domains and password hashes", dir, f.Mode.Perm()),
			"chmod 0700 "+dir)
	}
	return fine("%s has mode %04o", dir, f.Mode.Perm())
}

// writable writes, and only as the owner: a file that root made would lock the owner out.
func (e *Env) writable(dir string) []Outcome {
	f, err := e.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil || f.UID != e.UID:
		return skip("not tried, because "+dir+" is another user's", "")
	}
	if err := e.Probe(dir); err != nil {
		return fail(fmt.Sprintf("%s cannot be written: %v", dir, cause(err)),
			"make it writable for the user that postern runs as, and look for a full or read-only disk (ReadWritePaths= in the service)")
	}
	return fine("%s can be written", dir)
}

// store opens the store if nobody else has, and asks whoever has.
func (e *Env) store(dir string, d *Daemon) []Outcome {
	if d.Info != nil {
		switch {
		case d.Info.StoreFailed != "":
			return fail("the daemon's store has failed, and it works from memory: "+d.Info.StoreFailed, "mend the disk, then restart postern")
		case !d.Info.Store:
			return fail("the daemon could not open its store, and works from memory", "its log says why; mend that, then restart postern")
		}
		return fine("in use by the daemon")
	}
	f, err := e.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fine("%s is not there yet", dir)
	case err != nil || f.UID != e.UID:
		return skip("not opened, because "+dir+" is another user's", "")
	case d.Err != nil:
		return skip("not opened, because a daemon may be using it", "")
	}
	if err := e.OpenDisk(dir); err != nil {
		return fail(fmt.Sprintf("the store cannot be opened: %v", err),
			"end what uses it; if it is damaged, move "+dir+" away: logins fill it again, and registered domains come back with a list of `postern domain export`")
	}
	return fine("%s can be opened", dir)
}
