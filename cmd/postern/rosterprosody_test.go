package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The real Prosody: who logs in there is in a shared group, and both members see each other in
// their rosters, until one has left.
func TestRealProsodyRoster(t *testing.T) {
	c, dir := newCloud(t), shortDir(t)
	file, config := filepath.Join(dir, "groups.txt"), filepath.Join(dir, "prosody.cfg.lua")
	s := serve(t, "--config", c.rosterConfig(t, fmt.Sprintf(`roster "prosody" {
    groups_file  = %q
    reload       = [%q, "--config", %q, "shell", "module", "reload", "groups", "dom.example"]
    window       = "50ms"
    min_interval = "0s"
  }`, file, program(t, "prosodyctl"), config)))
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("Prosody needs the file when it starts: %v", err)
	}
	port := startProsodyIn(t, dir, posternAt(s.address("ejabberd"),
		fmt.Sprintf("modules_enabled = { \"saslauth\", \"roster\", \"groups\", \"admin_shell\" }\ngroups_file = %q", file))).port
	sees := func(user, text string) bool {
		t.Helper()
		shown, err := xmppRoster(port, user, "dom.example", "secret")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(shown, text)
	}
	c.team("+Team [=x]", 0, 2)
	c.mu.Lock()
	c.names["user1"] = "Ann\n[Doe]=x"
	c.mu.Unlock()
	waitFor(t, "user0 sees user1", func() bool { return sees("user0", "user1@dom.example") })
	if !sees("user1", "user0@dom.example") || !sees("user0", "<group>Team [=x]</group>") || !sees("user0", "Ann[Doe") {
		t.Errorf("the groups file:\n%s", readText(file))
	}
	if sees("user5", "user0@dom.example") {
		t.Error("a stranger sees the group")
	}
	s.eventually("the file is at rest", func() bool { return strings.Contains(s.log.String(), "steps=") })
	old, link := readText(file), filepath.Join(dir, "link")
	if err := os.Link(file, link); err != nil {
		t.Fatal(err)
	}
	c.team("+Team [=x]", 0, 3)
	waitFor(t, "user1 sees user2", func() bool { return sees("user1", "user2@dom.example") })
	c.team("+Team [=x]", 1, 3)
	waitFor(t, "user0 has left", func() bool { return !sees("user0", "user1@dom.example") && !sees("user1", "user0@dom.example") })
	if readText(link) != old {
		t.Errorf("the file was written over, not replaced:\n%s", readText(link))
	}
}
