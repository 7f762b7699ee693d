package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// The real Prosody: a user that logs in there is in a shared group, and both members see each other
// in their rosters, until one has left.
func TestRealProsodyRoster(t *testing.T) { harness.EachRelease(t, prosodyRoster) }

func prosodyRoster(t *testing.T, r harness.Release) {
	c, dir := harness.NewCloud(t), shortDir(t)
	file, config := filepath.Join(dir, "groups.txt"), filepath.Join(dir, "prosody.cfg.lua")
	s := harness.ServeCommand(t, r.Command(harness.Binary, "serve", "--config", c.RosterConfig(t, fmt.Sprintf(`roster "prosody" {
    groups_file  = %q
    reload       = [%q, "--config", %q, "shell", "module", "reload", "groups", "dom.example"]
    window       = "50ms"
    min_interval = "0s"
  }`, file, r.Program(t, "prosodyctl"), config))))
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("Prosody needs the file when it starts: %v", err)
	}
	port := startProsodyIn(t, r, dir, posternAt(s.Address("ejabberd"),
		fmt.Sprintf("modules_enabled = { \"saslauth\", \"roster\", \"groups\", \"admin_shell\" }\ngroups_file = %q", file))).port
	sees := func(user, text string) bool {
		t.Helper()
		shown, err := xmppRoster(port, user, "dom.example", "secret")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(shown, text)
	}
	c.Team("+Team [=x]", 0, 2)
	c.Mu.Lock()
	c.Names["user1"] = "Ann\n[Doe]=x"
	c.Mu.Unlock()
	harness.WaitFor(t, "user0 sees user1", func() bool { return sees("user0", "user1@dom.example") })
	if !sees("user1", "user0@dom.example") || !sees("user0", "<group>Team [=x]</group>") || !sees("user0", "Ann[Doe") {
		t.Errorf("the groups file:\n%s", harness.ReadText(file))
	}
	if sees("user5", "user0@dom.example") {
		t.Error("a stranger sees the group")
	}
	s.Eventually("the file is at rest", func() bool { return strings.Contains(s.Log.String(), "steps=") })
	old, link := harness.ReadText(file), filepath.Join(dir, "link")
	if err := os.Link(file, link); err != nil {
		t.Fatal(err)
	}
	c.Team("+Team [=x]", 0, 3)
	harness.WaitFor(t, "user1 sees user2", func() bool { return sees("user1", "user2@dom.example") })
	c.Team("+Team [=x]", 1, 3)
	harness.WaitFor(t, "user0 has left", func() bool { return !sees("user0", "user1@dom.example") && !sees("user1", "user0@dom.example") })
	if harness.ReadText(link) != old {
		t.Errorf("the file was written over, not replaced:\n%s", harness.ReadText(link))
	}
}
