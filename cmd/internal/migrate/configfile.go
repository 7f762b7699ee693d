package migrate

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"postern/cmd/internal/configfile"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/xcauth"
)

// newConfig makes the configuration and its secrets, which are not written yet. Files that exist already
// are not touched if they have the same content, and are an error otherwise.
func newConfig(o ImportOptions, settings *xcauth.Options, data *xcauth.Data) (*config.Config, []configfile.File, error) {
	if err := settings.Complete(); err != nil && o.Conf == "" && !slices.ContainsFunc(xcauth.DefaultConfigs(), func(file string) bool { return !absent(file) }) {
		return nil, nil, fmt.Errorf("there is neither %s: name xcauth's configuration file with --conf FILE", strings.Join(xcauth.DefaultConfigs(), " nor "))
	} else if err != nil {
		return nil, nil, fmt.Errorf("xcauth's configuration does not name its server: %w: write it there, or name another file with --conf FILE", err)
	}
	if err := xcauth.CheckURL(settings.URL); err != nil {
		return nil, nil, fmt.Errorf("xcauth's configuration: %w", err)
	}
	file, err := filepath.Abs(o.Out)
	if err != nil {
		return nil, nil, err
	}
	text, files := configText(file, o.Flags.DataDir, settings, data)
	conf := configfile.File{Path: file, Data: []byte(text)}
	cfg, problems := configfile.Parse(conf, files)
	if problems.Failed() {
		return nil, nil, fmt.Errorf("xcauth's settings make no valid configuration: %w", problems.Err())
	}
	files = append(files, conf)
	return cfg, files, write(io.Discard, true, files)
}

// write writes the files of a configuration, or none, and a line about each to out.
func write(out io.Writer, dry bool, files []configfile.File) error {
	w := configfile.Writing{Out: out, Dry: dry, Cure: "move it away, or import into it with --config"}
	return w.Write(files...)
}

// configText makes the text of a configuration file, and the files of its secrets beside it.
func configText(file, dataDir string, settings *xcauth.Options, data *xcauth.Data) (string, []configfile.File) {
	var files []configfile.File
	w := xcauth.Writer{
		DataDir: "/var/lib/postern", Listen: true,
		Banner: "Written by `postern import xcauth`: what xcauth's options and domain table say. Every setting,\nwith its default, is in config.hcl.example.",
		Secret: func(name string, secret auth.Secret) string {
			path := filepath.Join(filepath.Dir(file), name+".secret")
			files = append(files, configfile.File{Path: path, Data: []byte(secret.Reveal() + "\n")})
			return "file(" + config.Quote(path) + ")"
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
