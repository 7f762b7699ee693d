package doctor

import "testing"

// The flags of every command may stand before the name of one.
func TestExtauthFlags(t *testing.T) {
	for command, pipe := range map[string]bool{
		"pipe":                         true,
		"--config /etc/p.hcl pipe":     true,
		"--config=/etc/p.hcl pipe":     true,
		"--embedded --data-dir d pipe": true,
		"--embedded serve pipe":        false,
		"--config pipe":                false,
		"--config pipe serve":          false,
		"--config":                     false,
	} {
		m := newMachine()
		m.replace(yml, "postern pipe", "postern "+command)
		w := want{"ejabberd", "auth", Failure, "not its pipe", "pipe --protocol ejabberd"}
		if pipe {
			w = want{"ejabberd", "auth", OK, "without a cache of ejabberd's", ""}
		}
		t.Run(command, func(t *testing.T) { w.expect(t, m.report(t)) })
	}
}
