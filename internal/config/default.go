package config

import (
	_ "embed"
	"path/filepath"
)

//go:embed default.hcl
var defaultSource []byte

// Default returns the built-in configuration: most protocols on loopback, and passwords from the
// users file in dataDir. A relative dataDir starts at the working directory. Parse reads it like
// any other, and fails only for a dataDir that is invalid in any configuration: empty, with
// control characters, or too long for the path of a Unix socket.
func Default(dataDir string) (*Config, Problems) {
	if abs, err := filepath.Abs(dataDir); err == nil && dataDir != "" {
		dataDir = abs
	}
	lookup := func(name string) (string, bool) { return dataDir, name == "POSTERN_DATA_DIR" }
	return Parse("built-in default.hcl", defaultSource, Env{LookupEnv: lookup})
}
