package roster

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A step is printed to be pasted into a shell: that finds the same words, whatever the backend's names are.
func TestStepForAShell(t *testing.T) {
	for _, name := range []string{"Ann", "", "Ann O'Hara", "$(id)", "`id`", `a\b "c"`, "a;b|c&d", "*", "#x", "~", "Jörg", "a=b", "-n"} {
		s := Step{Command: SetVCard, User: "ann", Host: "example.org", Name: name}
		out, err := exec.Command("sh", "-c", `printf '%s\n' `+s.String()).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"); !slices.Equal(got, s.Args()) {
			t.Errorf("%s: a shell finds %q, want %q", s, got, s.Args())
		}
	}
	if got := (Step{Command: UserAdd, User: "ann", Host: "example.org", Group: "team-1", Home: "example.org"}).String(); got != "srg_user_add ann example.org team-1 example.org" {
		t.Errorf("plain words become %s", got)
	}
}
