package config

import (
	"strings"
	"testing"
)

// TestChanges: a block that does not say whether a listener takes changes gets a note with the line to add; a
// protocol without changes has neither.
func TestChanges(t *testing.T) {
	cases := map[string]struct {
		block   string
		changes bool
		note    string // part of the only note; empty: there is none
	}{
		"not said":      {"listen \"ejabberd\" {\n" + okAddr + "}\n", false, `changes = true to listen "ejabberd"`},
		"another label": {"listen \"xmpp\" {\nprotocol = \"generic\"\n" + okAddr + "}\n", false, `changes = true to listen "xmpp"`},
		"for relays":    {"listen \"relay\" { address = \"unix:/run/relay\" }\n", false, `changes = true to listen "relay"`},
		"no":            {"listen \"generic\" {\nchanges = false\n" + okAddr + "}\n", false, ""},
		"yes":           {"listen \"generic\" {\nchanges = true\n" + okAddr + "}\n", true, ""},
		"a lookup":      {"listen \"tcp_table\" {\n" + okAddr + "}\n", false, ""},
		"logins only":   {"listen \"dovecot\" {\n" + okAddr + "}\n", false, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cfg, problems := Parse("/etc/postern/test.hcl", []byte(c.block+base), testEnv(t))
			if cfg == nil || len(problems) > 0 {
				t.Fatalf("%v", problems)
			}
			notes := cfg.Notes()
			if got := cfg.Listeners[0].Changes; got != c.changes || (len(notes) > 0) != (c.note != "") ||
				c.note != "" && (len(notes) > 1 || !strings.Contains(notes[0], c.note)) {
				t.Errorf("changes %t, notes %q; want %t, %q", got, notes, c.changes, c.note)
			}
		})
	}
	runComplaints(t, []complaint{
		{"changes of a lookup", "listen \"tcp_table\" {\n" + okAddr + "changes = true\n}\n" + base, Error, 3, "no requests that change", "remove"},
		{"administrators of a users file", domain(okRefs + "change_admins = true"), Warning, 4, "no effect", "nextcloud"},
	})
}
