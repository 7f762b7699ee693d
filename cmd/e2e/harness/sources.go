package harness

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// repository is the root of the source tree, as the tests find it at first.
const repository = "../../.."

// noteSources looks at all files of the repository that the program and its package are made of. The go command
// keeps the results of tests, and knows of a test what it is compiled from and which files of the repository it
// has looked at: without this it would show an old result after a change to the program. What is looked at before
// the tests begin does not count.
var noteSources = sync.OnceFunc(func() {
	for _, file := range []string{"go.mod", "Makefile", "README.md", "config.hcl.example"} {
		_, _ = os.Stat(filepath.Join(sourceRoot, file))
	}
	for _, dir := range []string{"actors", "cmd", "internal", "scripts", "wire"} {
		_ = filepath.WalkDir(filepath.Join(sourceRoot, dir), func(string, fs.DirEntry, error) error { return nil })
	}
})

// sourceRoot is the repository for tests that change their folder.
var sourceRoot, _ = filepath.Abs(repository)
