package backend

import (
	"errors"
	"path/filepath"
)

// errLink means that root would write where another user's symbolic link leads.
var errLink = errors.New("root does not follow a symbolic link of another user: run the command as the user that postern runs as")

// place is where a users file is written. Its paths are valid until close.
type place struct {
	file, lock string
	close      func()
}

// openPlace finds out where the file at path, and its lock, are to be written. Links are followed,
// since a rename would replace them. As root only links of root's are: another user, such as the one
// that the service runs as, could lead root to any file.
func openPlace(path string, root bool) (place, error) {
	if !root {
		p := place{path, path + ".lock", func() {}}
		if target, err := filepath.EvalSymlinks(path); err == nil {
			p.file = target
		}
		return p, nil
	}
	return rootPlace(path)
}
