package commands

import (
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// Shells complete domains, of the configuration and registered ones, addresses at them, protocols and
// kinds of backends.
func TestCompletion(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), harness.OneList+harness.UsersBase+"registry {}\n")
	harness.Serve(t, "--config", config)
	harness.OK(t, "", "domain", "add", "else.example", "--backend", "users", "--config", config)
	for args, want := range map[string]string{
		"domain show --config " + config + " ":          "dom.example else.example",
		"domain show --config " + config + " el":        "else.example",
		"domain show el extra --config " + config + " ": "",
		"cache forget --config " + config + " joe@":     "joe@dom.example joe@else.example",
		"cache forget --config " + config + " d":        "d@dom.example dom.example d@else.example",
		"test auth --config " + config + " joe@d":       "joe@dom.example",
		"test auth --config " + config + " ":            "",
		"token issue --config /none joe@":               "",
		"pipe --protocol ":                              "ejabberd generic saslauthd tcp_table socketmap",
		"domain add x.example --backend ":               "jsxc json nextcloud users",
		"user list ":                                    "",
		"completion ":                                   "bash fish zsh",
	} {
		r := harness.Command(t, "", append([]string{"__completeNoDesc"}, strings.Split(args, " ")...)...)
		got, _, _ := strings.Cut(r.Out, ":")
		if got = strings.Join(strings.Fields(got), " "); got != want || r.Code != 0 {
			t.Errorf("%q: %q, want %q\n%s", args, got, want, r.Err)
		}
	}
	script := harness.OK(t, "", "completion", "bash")
	if r := harness.RunCommand(t, script, "/bin/bash", "-n"); r.Code != 0 || !strings.Contains(script, "init_completion -n =:@ ") {
		t.Errorf("bash does not read the script: %s", r.Err)
	}
	if r := harness.Command(t, "", "completion", "csh"); r.Code != 1 || !strings.Contains(r.Err, "write `postern completion bash|fish|zsh`") {
		t.Errorf("of another shell: %+v", r)
	}
}
