package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ConfigFile writes a configuration with the data directory dir.
func ConfigFile(t *testing.T, dir, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.hcl")
	text = fmt.Sprintf("data_dir = %q\n", dir) + text
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Parts of configurations, and a right login of joe's in the line protocol.
const (
	UsersBackend = `backend "users" "local" { bcrypt_cost = 4 }` + "\n"
	UsersDomain  = `domain "dom.example" {
  backends = [backend.users.local]
  cache {
    bcrypt_cost = 4
  }
}
`
	UsersBase = UsersBackend + UsersDomain
	OneList   = `listen "generic" { address = "127.0.0.1:0" }` + "\n"
	JoeLine   = "auth:joe:dom.example:secret\n"
)

// PipeConfig has no listener: a pipe needs none.
const PipeConfig = `
backend "users" "local" { bcrypt_cost = 4 }
domain "dom.example" {
  backends = [backend.users.local]
  cache { storage = "memory" }
}
`

// PipeUsers writes PipeConfig with more of it, and the account joe, password secret.
func PipeUsers(t *testing.T, more string) (config, data string) {
	t.Helper()
	data = t.TempDir()
	config = ConfigFile(t, data, PipeConfig+more)
	OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	return config, data
}

// Noisy is a pipe that has much to log: everything, and a backend that is down.
func Noisy(t *testing.T, more string) (config, data string) {
	t.Helper()
	config, data = PipeUsers(t, "backend \"json\" \"app\" { url = \""+DeadURL(t)+"\" }\n"+
		"domain \"away.example\" { backends = [backend.json.app] }\n"+more)
	return config, data
}

// UsersConfig is a domain on the users file, with a cheap hash. Two of its listeners take changes.
const UsersConfig = `
listen "ejabberd" {
  changes = true
  address = "127.0.0.1:0"
}
listen "generic" {
  changes = true
  address = "127.0.0.1:0"
}
listen "tcp_table" { address = "127.0.0.1:0" }
listen "socketmap" { address = "127.0.0.1:0" }
listen "saslauthd" {
  address        = "unix:mux"
  default_domain = "dom.example"
  mode           = "0600"
}
listen "dovecot" {
  address        = "127.0.0.1:0"
  default_domain = "dom.example"
}
backend "users" "local" { bcrypt_cost = 4 }
domain "dom.example" {
  backends = [backend.users.local]
  cache { bcrypt_cost = 4 }
}
`

// EjabberdWith is a text like UsersConfig in which the ejabberd listener has other attributes.
func EjabberdWith(config, attributes string) string {
	const block = "listen \"ejabberd\" {\n  changes = true\n  "
	return strings.Replace(config, block+`address = "127.0.0.1:0"`, block+attributes, 1)
}

// UsersServer starts a daemon with the account joe, password secret.
func UsersServer(t *testing.T) (s *Server, config string) {
	t.Helper()
	config = ConfigFile(t, t.TempDir(), UsersConfig)
	OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	return Serve(t, "--config", config), config
}

// RegistryOnly is a configuration that has no domains of its own.
const RegistryOnly = `registry {
  idle = "1s"
  cache {
    bcrypt_cost = 4
  }
}
`
