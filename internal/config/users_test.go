package config

import (
	"os"
	"slices"
	"testing"
)

// TestUsers: which users a Unix socket admits, and which of them may make changes.
func TestUsers(t *testing.T) {
	both := []string{"ejabberd", "prosody"}
	for name, c := range map[string]struct {
		block          string
		address        string
		mode           os.FileMode
		users, changes []string
		may            bool
	}{
		"alone":               {`listen "relay" {}`, RelayPath, 0o666, both, nil, false},
		"without an address":  {"listen \"relay\" {\nusers = [\"dovecot\"]\nchanges = true\n}", RelayPath, 0o666, []string{"dovecot"}, nil, true},
		"changes of one":      {"listen \"relay\" {\nusers = [\"ejabberd\", \"prosody\"]\nchanges = [\"ejabberd\"]\n}", RelayPath, 0o666, both, []string{"ejabberd"}, true},
		"with a group":        {"listen \"relay\" {\ngroup = \"ejabberd\"\n}", RelayPath, 0o660, nil, nil, false},
		"users of a group":    {"listen \"relay\" {\nusers = [\"ejabberd\"]\ngroup = \"ejabberd\"\n}", RelayPath, 0o660, []string{"ejabberd"}, nil, false},
		"as it was":           {"listen \"relay\" {\naddress = \"unix:/run/x\"\n}", "/run/x", 0o660, nil, nil, false},
		"another protocol":    {"listen \"saslauthd\" {\naddress = \"unix:/run/x\"\nusers = \"postfix\"\n}", "/run/x", 0o666, []string{"postfix"}, nil, false},
		"a mode of its own":   {"listen \"relay\" {\nusers = [\"ejabberd\"]\nmode = \"0600\"\n}", RelayPath, 0o600, []string{"ejabberd"}, nil, false},
		"a socket of systemd": {"listen \"relay\" {\naddress = \"systemd:relay\"\nusers = [\"ejabberd\"]\n}", "relay", 0, []string{"ejabberd"}, nil, false},
	} {
		cfg, problems := Parse("/etc/postern/test.hcl", []byte(c.block+"\n"+base), testEnv(t))
		if cfg == nil {
			t.Fatalf("%s: %v", name, problems)
		}
		l := cfg.Listeners[0]
		if l.Address != c.address || l.Mode != c.mode || !slices.Equal(l.Users, c.users) || (l.Users == nil) != (c.users == nil) ||
			!slices.Equal(l.ChangeUsers, c.changes) || l.Changes != c.may {
			t.Errorf("%s: %+v", name, l)
		}
	}
	runComplaints(t, []complaint{
		{"users of a port", "listen \"generic\" {\n" + okAddr + "users = [\"ejabberd\"]\n}\n" + base, Error, 3, "for Unix sockets only", "unix:/path"},
		{"no name", "listen \"relay\" {\nusers = [\"a b\"]\n}\n" + base, Error, 2, "no name of a user", "ejabberd"},
		{"twice", "listen \"relay\" {\nusers = [\"a\", \"a\"]\n}\n" + base, Warning, 2, "named twice", "remove"},
		{"changes of a stranger", "listen \"relay\" {\nusers = [\"a\"]\nchanges = [\"b\"]\n}\n" + base, Error, 3, "that users does not", "changes = true"},
		{"the relay's path twice", "listen \"relay\" {}\nlisten \"r2\" {\nprotocol = \"relay\"\n}\n" + base, Error, 2, "has the same address", "its own"},
		{"no users", "listen \"relay\" {\nusers = []\n}\n" + base, Error, 2, "empty list", "leave the line out"},
	})
}
