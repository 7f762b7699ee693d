package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"postern/cmd/internal/datadir"
	"postern/internal/atomicfile"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/xcauth"
)

// privateFile is a file of the configuration, which only its owner may read.
type privateFile struct {
	path string
	data []byte
}

// writeConfig writes the configuration and its secrets, and returns the configuration. Files that
// exist already are not touched if they have the same content, and are an error otherwise.
func writeConfig(out io.Writer, o ImportOptions, settings *xcauth.Options, data *xcauth.Data) (*config.Config, error) {
	if err := settings.Complete(); err != nil {
		return nil, fmt.Errorf("xcauth's configuration does not name its server: %w: name it with --conf", err)
	}
	if err := xcauth.CheckURL(settings.URL); err != nil {
		return nil, fmt.Errorf("xcauth's configuration: %w", err)
	}
	file, err := filepath.Abs(o.Out)
	if err != nil {
		return nil, err
	}
	text, files := configText(file, o.Flags.DataDir, settings, data)
	files = append(files, privateFile{file, []byte(text)})
	cfg, err := parse(file, []byte(text), files...)
	if err != nil {
		return nil, fmt.Errorf("xcauth's settings make no valid configuration: %w", err)
	}
	for _, f := range files {
		if err := f.write(out, o.DryRun); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(out, "domains: %d found, %d in the configuration\n", len(data.Domains), len(data.Domains))
	return cfg, nil
}

// parse reads a configuration that is not written yet, with the files that it refers to.
func parse(file string, text []byte, files ...privateFile) (*config.Config, error) {
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
	env.Stat = nil // the files will have a safe mode
	cfg, problems := config.Parse(file, text, env)
	if problems.Failed() {
		return nil, problems.Err()
	}
	return cfg, nil
}

// configText makes the text of a configuration file, and the files of its secrets beside it.
func configText(file, dataDir string, settings *xcauth.Options, data *xcauth.Data) (string, []privateFile) {
	var files []privateFile
	w := xcauth.Writer{
		DataDir: "/var/lib/postern", Listen: true,
		Banner: "Written by `postern import xcauth`: what xcauth's options and domain table say. Every setting,\nwith its default, is in config.hcl.example.",
		Secret: func(name string, secret auth.Secret) string {
			path := filepath.Join(filepath.Dir(file), name+".secret")
			files = append(files, privateFile{path, []byte(secret.Reveal() + "\n")})
			return "file(" + xcauth.Quote(path) + ")"
		},
	}
	if dataDir != "" {
		w.DataDir = dataDir
		if abs, err := filepath.Abs(dataDir); err == nil {
			w.DataDir = abs
		}
	}
	// No log file: the daemon may not write in xcauth's directory.
	return w.Config(settings, data.Domains), files
}

// write writes a file that only its owner can read, unless it has the content already.
func (f privateFile) write(out io.Writer, dry bool) error {
	before, err := os.ReadFile(f.path)
	switch {
	case err == nil && bytes.Equal(before, f.data):
		fmt.Fprintf(out, "%s: unchanged\n", f.path)
		return nil
	case err == nil:
		return fmt.Errorf("%s exists with different content: move it away, or import into it with --config", f.path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case dry:
		fmt.Fprintf(out, "%s: to be written\n", f.path)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(f.path, f.data, nil); err != nil {
		return err
	}
	reader := "its owner"
	if uid, gid, found := datadir.ServiceUser(); found {
		if err := os.Chown(f.path, uid, gid); err != nil {
			return err
		}
		reader = "postern"
	}
	fmt.Fprintf(out, "%s: written, readable by %s only\n", f.path, reader)
	return nil
}
