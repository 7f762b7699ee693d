package commands

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// rosterScript is an ejabberdctl that notes its arguments in a file.
func rosterScript(t *testing.T) (program, notes string) {
	t.Helper()
	dir := t.TempDir()
	program, notes = filepath.Join(dir, "ejabberdctl"), filepath.Join(dir, "notes")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ntest -e "+dir+"/down && exit 3\necho \"$*\" >>"+notes+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, notes
}

// Every roster command, with a daemon and without one.
func TestRosterCommands(t *testing.T) {
	c := harness.NewCloud(t)
	program, notes := rosterScript(t)
	config := c.RosterConfig(t, `roster "ejabberd" {
    ejabberdctl  = "`+program+`"
    window       = "50ms"
    min_interval = "0s"
  }`)
	const all = "set_vcard user0 dom.example FN Name of user0\nset_vcard user1 dom.example FN Name of user1\n" +
		"srg_create Team A dom.example Team A Team A Team A\nsrg_get_members Team A dom.example\n" +
		"srg_user_add user0 dom.example Team A dom.example\nsrg_user_add user1 dom.example Team A dom.example\n"
	c.Team("Team A", 0, 2)
	plan := harness.OK(t, "", "roster", "plan", "user0@dom.example", "--config", config)
	if !strings.HasPrefix(plan, "set_vcard user0 dom.example FN 'Name of user0'\n") || !strings.Contains(plan, "6 commands for 1 users") {
		t.Errorf("plan without a daemon:\n%s", plan)
	}
	if text := harness.ReadText(notes); text != "srg_get_members Team A dom.example\n" {
		t.Errorf("the plan did\n%s", text)
	}
	_ = os.Remove(notes)
	if shown := harness.ShownRoster(t, config, "user0@dom.example"); shown.Complete || len(shown.Groups) > 0 {
		t.Errorf("the plan is known: %+v", shown)
	}

	s := harness.Serve(t, "--config", config)
	s.LogIn(0, 1)
	harness.FileSays(t, notes, all)
	harness.WaitFor(t, "the run is known", func() bool { return harness.ShownRoster(t, config, "user0@dom.example").Complete })
	shown := harness.ShownRoster(t, config, "User1@DOM.example")
	if shown.FullName == nil || *shown.FullName != "Name of user1" || shown.Groups["Team A"] != 2 || len(shown.Own) != 0 {
		t.Errorf("shown: %+v", shown)
	}
	if plan := harness.OK(t, "", "roster", "plan", "dom.example", "--config", config); !strings.HasPrefix(plan, "# 0 commands for 1 users") {
		t.Errorf("plan when all is done:\n%s", plan)
	}
	for _, scope := range [][]string{nil, {"dom.example"}, {"user0@dom.example"}} {
		_ = os.Remove(notes)
		if out := harness.OK(t, "", append([]string{"roster", "refresh", "--config", config}, scope...)...); out != "forgotten; being rebuilt for 1 users\n" {
			t.Errorf("refresh %v: %s", scope, out)
		}
		want := all
		if len(scope) > 0 && strings.Contains(scope[0], "@") {
			want = strings.Replace(all, "set_vcard user1 dom.example FN Name of user1\n", "", 1)
		}
		harness.FileSays(t, notes, want)
		harness.WaitFor(t, "the rebuilding is known", func() bool { return harness.ShownRoster(t, config, "user0@dom.example").Complete })
	}
	for _, bad := range []string{"plan other.example", "forget-group nothing", "forget-group @dom.example", "show dom.example", "plan a@b@c"} {
		if r := harness.Command(t, "", append(append([]string{"roster"}, strings.Fields(bad)...), "--config", config)...); r.Code == 0 || r.Err == "" {
			t.Errorf("%s: %+v", bad, r)
		}
	}
	s.Stop(syscall.SIGTERM)

	for scope, want := range map[string]string{"": "forgotten for 1 users; no daemon", "dom.example": "forgotten for 1 users; no daemon", "user0@dom.example": "forgotten for 1 users; no daemon",
		"user1@dom.example": "nothing to forget", "user9@dom.example": "nothing to forget"} {
		if out := harness.OK(t, "", append([]string{"roster", "refresh", "--config", config}, strings.Fields(scope)...)...); !strings.HasPrefix(out, want) {
			t.Errorf("refresh %s without a daemon: %s", scope, out)
		}
	}
	if shown := harness.ShownRoster(t, config, "user0@dom.example"); shown.Complete || shown.FullName != nil || len(shown.Doubtful) != 1 || len(shown.Own) != 1 {
		t.Errorf("after a refresh: %+v", shown)
	}
	_ = os.Remove(notes)
	if out := harness.OK(t, "", "roster", "forget-group", "Team A@dom.example", "--config", config); !strings.Contains(out, "no members") {
		t.Errorf("forget-group of a group without members: %s", out)
	}
	if shown := harness.ShownRoster(t, config, "user0@dom.example"); len(shown.Groups) > 0 || len(shown.Own) > 0 {
		t.Errorf("after forget-group: %+v", shown)
	}
	harness.FileSays(t, notes, "srg_get_members Team A dom.example\n")
}

// The daemon is killed while the XMPP server is down: the next one begins where it stopped.
func TestRosterSurvivesKill(t *testing.T) {
	c := harness.NewCloud(t)
	program, notes := rosterScript(t)
	down := filepath.Join(filepath.Dir(notes), "down")
	config := c.RosterConfig(t, `roster "ejabberd" {
    ejabberdctl  = "`+program+`"
    window       = "10ms"
    min_interval = "0s"
  }`)
	c.Team("Team", 0, 2)
	s := harness.Serve(t, "--config", config)
	s.LogIn(0, 1)
	harness.WaitFor(t, "the run is known", func() bool { return harness.ShownRoster(t, config, "user0@dom.example").Complete })
	if err := os.WriteFile(down, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(notes)
	c.Team("Team", 0, 3)
	s.LogIn(0, 1)
	s.Eventually("the outage is logged", func() bool { return strings.Contains(s.Log.String(), "exit status 3") })
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	if err := os.Remove(down); err != nil {
		t.Fatal(err)
	}
	s = harness.Serve(t, "--config", config)
	s.LogIn(0, 1)
	harness.FileSays(t, notes, "srg_user_add user2 dom.example Team dom.example\n")
	harness.WaitFor(t, "the run is known", func() bool { return harness.ShownRoster(t, config, "user0@dom.example").Complete })
	if n := strings.Count(harness.ReadText(notes), "set_vcard user2"); n != 1 {
		t.Errorf("user2 was named %d times:\n%s", n, harness.ReadText(notes))
	}
	if strings.Contains(harness.ReadText(notes), "set_vcard user0") {
		t.Errorf("what was done is done again:\n%s", harness.ReadText(notes))
	}
}
