package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"postern/internal/config"
	"postern/internal/unit"
)

// Service is the unit of the daemon, as far as its user is concerned.
type Service struct {
	Unit unit.Service
	Err  error // why it is not known; fs.ErrNotExist: there is none
}

// runsAs returns the user of the unit. found is false if that is root, or there is no unit.
func (s Service) runsAs() (user string, found bool) {
	return s.Unit.User, s.Err == nil && s.Unit.File != "" && s.Unit.User != "" && s.Unit.User != "root"
}

// ServiceUser returns what the user of the unit cannot read or write of a configuration at file, with
// the commands that mend it. Root, which asks, could read everything.
func (e *Env) ServiceUser(s Service, file string, cfg *config.Config) (out []Outcome) {
	user, found := s.runsAs()
	if !found {
		return nil
	}
	uid, err := e.UserID(user)
	if err != nil {
		return fail(fmt.Sprintf("%s runs as %s, and there is no such user", unit.Name, user), "systemd-sysusers, or correct User= in the unit")
	}
	a := serviceAccount{Env: e, user: user, group: s.Unit.Group, account: account{uid, e.Groups(uid)}}
	for _, name := range append([]string{s.Unit.Group}, s.Unit.Groups...) {
		if gid, err := e.GroupID(name); err == nil {
			a.gids = append(a.gids, gid)
		}
	}
	if a.group == "" {
		a.group = user
	}
	for _, path := range append([]string{file}, cfg.Files...) {
		out = append(out, a.reads(path, fmt.Sprintf("chgrp %s %s && chmod g+r %[2]s", a.group, path))...)
	}
	given := s.givesDataDir(e, cfg.DataDir, uid)
	if !given {
		out = append(out, a.dataDir(cfg.DataDir)...)
	}
	for _, b := range cfg.Backends {
		if b.Path != "" && !(given && within(b.Path, cfg.DataDir)) {
			out = append(out, a.reads(b.Path, fmt.Sprintf("chown %s %s && chmod u+rw %[2]s", user, b.Path))...)
		}
	}
	return out
}

// givesDataDir reports whether systemd makes the data directory and gives all that is in it to the user
// at the next start, as it does for a StateDirectory= of another owner.
func (s Service) givesDataDir(e *Env, dir string, uid int) bool {
	return slices.ContainsFunc(s.Unit.StateDirs, func(state string) bool {
		f, err := e.Stat(state)
		return within(dir, state) && (errors.Is(err, fs.ErrNotExist) && dir == state || err == nil && f.UID != uid)
	})
}

// within reports whether a path is that of dir or of a file below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// serviceAccount is the user of the unit with its groups.
type serviceAccount struct {
	*Env
	account
	user, group string
}

// reads returns why the user cannot read a file, if so. A file that is missing is another's fault.
func (a serviceAccount) reads(path, cure string) []Outcome {
	f, err := a.Stat(path)
	if err != nil {
		return nil
	}
	if dir := a.closed(path, a.account); dir != "" {
		return fail(fmt.Sprintf("%s, the user of %s, cannot enter %s to read %s", a.user, unit.Name, dir, path), "chmod o+x "+dir)
	}
	if !f.may(a.account, mayRead) {
		return fail(fmt.Sprintf("%s, the user of %s, cannot read %s", a.user, unit.Name, path), cure)
	}
	return nil
}

// dataDir returns why the user cannot use the data directory, if so.
func (a serviceAccount) dataDir(dir string) []Outcome {
	install := fmt.Sprintf("install -d -m 0711 -o %s -g %s %s", a.user, a.group, dir)
	f, err := a.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := a.existing(filepath.Dir(dir))
		if f, err := a.Stat(parent); err == nil && !f.may(a.account, mayWrite|mayEnter) {
			return fail(fmt.Sprintf("%s, the user of %s, cannot create %s", a.user, unit.Name, dir), install)
		}
		return nil
	case err != nil:
		return nil
	}
	if closed := a.closed(dir, a.account); closed != "" {
		return fail(fmt.Sprintf("%s, the user of %s, cannot enter %s to use %s", a.user, unit.Name, closed, dir), "chmod o+x "+closed)
	}
	if !f.may(a.account, mayRead|mayWrite|mayEnter) {
		return fail(fmt.Sprintf("%s, the user of %s, cannot write %s", a.user, unit.Name, dir), fmt.Sprintf("chown -R %s: %s", a.user, dir))
	}
	return nil
}

// serviceUser is the step of a doctor that runs as root.
func (e *Env) serviceUser(s Service, file string, cfg *config.Config) Step {
	return Step{Check: "service-user", Alone: true, Run: func(context.Context) []Outcome {
		user, found := s.runsAs()
		if cfg == nil || file == "" || e.UID != 0 || !found {
			return nil
		}
		if out := e.ServiceUser(s, file, cfg); len(out) > 0 {
			return out
		}
		return fine("%s, the user of %s, can read the configuration and all that it names", user, unit.Name)
	}}
}
