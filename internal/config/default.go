package config

import (
	_ "embed"
	"path/filepath"
)

//go:embed default.hcl
var defaultSource []byte

// Default returns the built-in configuration: every protocol on loopback, passwords
// from the users file in dataDir. A relative dataDir starts at the working
// directory. It goes through Parse like any other configuration, and fails only for
// a dataDir that no configuration could have: empty, with control characters, or too
// long for the Unix socket in it.
func Default(dataDir string) (*Config, Problems) {
	if abs, err := filepath.Abs(dataDir); err == nil && dataDir != "" {
		dataDir = abs
	}
	lookup := func(name string) (string, bool) { return dataDir, name == "POSTERN_DATA_DIR" }
	return Parse("built-in default.hcl", defaultSource, Env{LookupEnv: lookup})
}
