package configfile

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
	"postern/internal/config"
	"postern/internal/unit"
)

// Readers are the users that may read a file besides its owner, the user that ran the command.
type Readers uint8

// The readers.
const (
	Daemon   Readers = iota // the user that the service runs as, if root writes the file
	None                    // the owner only
	Everyone                // every user of the machine
)

// File is a file of a configuration that a command writes.
type File struct {
	Path    string // absolute
	Data    []byte
	Readers Readers
}

// Parse parses a configuration that is not written yet, with the files that it refers to. credentials
// are of the unit as it will be.
func Parse(file File, others []File, credentials ...unit.Credential) (*config.Config, config.Problems) {
	env := config.OSEnv()
	disk := env.ReadFile
	env.ReadFile = func(name string) ([]byte, error) {
		for _, f := range others {
			if f.Path == name {
				return f.Data, nil
			}
		}
		return disk(name)
	}
	env.Stat = nil // the files will have a safe mode
	if len(credentials) > 0 {
		env.Service = func() (unit.Service, error) { return unit.Service{Credentials: credentials}, nil }
		env.Root = true
	}
	return config.Parse(file.Path, file.Data, env)
}

// Writing says how files are written.
type Writing struct {
	Out   io.Writer // a line for each file
	Force bool      // replace files of other content
	Dry   bool      // only say what would be done
	Cure  string    // what to do about a file of other content
}

// Write writes files, or none if one of them exists with other content.
func (w Writing) Write(files ...File) error {
	known := make([]bool, len(files))
	for i, f := range files {
		before, err := os.ReadFile(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case bytes.Equal(before, f.Data):
			known[i] = true
		case !w.Force:
			return fmt.Errorf("%s exists with different content: %s", f.Path, w.Cure)
		}
	}
	for i, f := range files {
		done := "unchanged"
		switch {
		case known[i]:
		case w.Dry:
			done = "to be written"
		default:
			readers, err := f.write()
			if err != nil {
				return err
			}
			done = "written, readable by " + readers
		}
		fmt.Fprintf(w.Out, "%s: %s\n", f.Path, done)
	}
	return nil
}

// write writes the file and returns a text that names its readers.
func (f File) write() (readers string, err error) {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return "", err
	}
	mode, group, readers := fs.FileMode(0o600), -1, "its owner only"
	_, gid, found := datadir.ServiceUser()
	switch {
	case f.Readers == Everyone:
		mode, readers = 0o644, "every user"
	case f.Readers == Daemon && found:
		mode, group, readers = 0o640, gid, "root and postern only"
	}
	return readers, atomicfile.Write(f.Path, f.Data, func(temp *os.File) error {
		if group >= 0 {
			if err := temp.Chown(-1, group); err != nil {
				return err
			}
		}
		return temp.Chmod(mode)
	})
}
