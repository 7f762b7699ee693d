package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"postern/internal/atomicfile"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/xcauth"
)

// written is a file that belongs to the configuration.
type written struct {
	path string
	data []byte
}

// writeConfig writes the configuration and its secrets, and reads it again. Files that are there
// already are left alone if they say the same, and are an error if they do not.
func (a *app) writeConfig(o importOptions, settings *xcauth.Options, data *xcauth.Data) (*config.Config, error) {
	if err := settings.Complete(); err != nil {
		return nil, fmt.Errorf("xcauth's configuration does not name its server: %w: name it with --conf", err)
	}
	if err := xcauth.CheckURL(settings.URL); err != nil {
		return nil, fmt.Errorf("xcauth's configuration: %w", err)
	}
	out, err := filepath.Abs(o.out)
	if err != nil {
		return nil, err
	}
	text, files := a.configText(out, settings, data)
	files = append(files, written{out, []byte(text)})
	env := config.OSEnv()
	disk := env.ReadFile
	env.ReadFile = func(name string) ([]byte, error) {
		for _, f := range files {
			if f.path == name {
				return f.data, nil
			}
		}
		return disk(name)
	}
	env.Stat = nil // the files are not there yet, and are made with a safe mode
	cfg, problems := config.Parse(out, []byte(text), env)
	if problems.Failed() {
		return nil, fmt.Errorf("xcauth's settings make no valid configuration: %w", problems.Err())
	}
	for _, f := range files {
		if err := a.keep(f, o.dryRun); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(a.out, "domains: %d found, %d in the configuration\n", len(data.Domains), len(data.Domains))
	return cfg, nil
}

// configText makes the configuration for a file, and the files of its secrets beside it.
func (a *app) configText(out string, settings *xcauth.Options, data *xcauth.Data) (string, []written) {
	var files []written
	w := xcauth.Writer{
		DataDir: "/var/lib/postern", Listen: true,
		Banner: "Written by `postern import xcauth`: what xcauth's options and domain table say. Every setting,\nwith its default, stands in config.hcl.example.",
		Secret: func(name string, secret auth.Secret) string {
			path := filepath.Join(filepath.Dir(out), name+".secret")
			files = append(files, written{path, []byte(secret.Reveal() + "\n")})
			return "file(" + xcauth.Quote(path) + ")"
		},
	}
	if a.dataDir != "" {
		w.DataDir = a.dataDir
		if abs, err := filepath.Abs(a.dataDir); err == nil {
			w.DataDir = abs
		}
	}
	// No log file: xcauth's directory is not the daemon's to write in.
	return w.Config(settings, data.Domains), files
}

// keep writes a file that only its owner can read, unless it says so already.
func (a *app) keep(f written, dry bool) error {
	before, err := os.ReadFile(f.path)
	switch {
	case err == nil && bytes.Equal(before, f.data):
		fmt.Fprintf(a.out, "%s: unchanged\n", f.path)
		return nil
	case err == nil:
		return fmt.Errorf("%s is there and says something else: move it away, or import into it with --config", f.path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case dry:
		fmt.Fprintf(a.out, "%s: to be written\n", f.path)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(f.path, f.data, nil); err != nil {
		return err
	}
	reader := "its owner"
	if uid, gid, found := serviceUser(); found {
		if err := os.Chown(f.path, uid, gid); err != nil {
			return err
		}
		reader = "postern"
	}
	fmt.Fprintf(a.out, "%s: written, readable by %s only\n", f.path, reader)
	return nil
}

// serviceUser is the user that the daemon runs as where it was installed with its unit, if we are
// root and could write for it.
func serviceUser() (uid, gid int, found bool) {
	u, err := user.Lookup("postern")
	if err != nil || os.Geteuid() != 0 {
		return 0, 0, false
	}
	uid, errU := strconv.Atoi(u.Uid)
	gid, errG := strconv.Atoi(u.Gid)
	return uid, gid, errU == nil && errG == nil
}
