// Package childenv is the environment of the programs that postern starts for a server, such as
// ejabberdctl and prosodyctl: what they need to work, and nothing of postern's own, which may hold
// secrets (see env() in the configuration) or descriptors of the service manager.
package childenv

import (
	"os"
	"slices"
	"strings"
)

// defaultPath is used where the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// kept are the variables that are passed on.
var kept = []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"}

// New returns the environment for a child, as exec.Cmd takes it. It always has a PATH.
func New() []string { return from(os.Environ()) }

func from(all []string) []string {
	env := []string{}
	path := false
	for _, v := range all {
		name, value, _ := strings.Cut(v, "=")
		if slices.Contains(kept, name) && value != "" || strings.HasPrefix(name, "LC_") {
			env = append(env, v)
			path = path || name == "PATH"
		}
	}
	if !path {
		env = append(env, "PATH="+defaultPath)
	}
	return env
}
