package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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

// shownRoster is what `roster show` prints of a user.
func shownRoster(t *testing.T, config, user string) (shown rosterShown) {
	t.Helper()
	if err := json.Unmarshal([]byte(ok(t, "", "roster", "show", user, "--config", config)), &shown); err != nil {
		t.Fatal(err)
	}
	return shown
}

// Every roster command, with a daemon and without one.
func TestRosterCommands(t *testing.T) {
	c := newCloud(t)
	program, notes := rosterScript(t)
	config := c.rosterConfig(t, `roster "ejabberd" {
    ejabberdctl  = "`+program+`"
    window       = "50ms"
    min_interval = "0s"
  }`)
	const all = "set_vcard user0 dom.example FN Name of user0\nset_vcard user1 dom.example FN Name of user1\n" +
		"srg_create Team A dom.example Team A Team A Team A\nsrg_get_members Team A dom.example\n" +
		"srg_user_add user0 dom.example Team A dom.example\nsrg_user_add user1 dom.example Team A dom.example\n"
	c.team("Team A", 0, 2)
	plan := ok(t, "", "roster", "plan", "user0@dom.example", "--config", config)
	if !strings.HasPrefix(plan, "set_vcard user0 dom.example FN \"Name of user0\"\n") || !strings.Contains(plan, "6 commands for 1 users") {
		t.Errorf("plan without a daemon:\n%s", plan)
	}
	if text := readText(notes); text != "srg_get_members Team A dom.example\n" {
		t.Errorf("the plan did\n%s", text)
	}
	_ = os.Remove(notes)
	if shown := shownRoster(t, config, "user0@dom.example"); shown.Complete || len(shown.Groups) > 0 {
		t.Errorf("the plan is known: %+v", shown)
	}

	s := serve(t, "--config", config)
	s.logIn(0, 1)
	fileSays(t, notes, all)
	waitFor(t, "the run is known", func() bool { return shownRoster(t, config, "user0@dom.example").Complete })
	shown := shownRoster(t, config, "User1@DOM.example")
	if shown.FullName == nil || *shown.FullName != "Name of user1" || shown.Groups["Team A"] != 2 || len(shown.Own) != 0 {
		t.Errorf("shown: %+v", shown)
	}
	if plan := ok(t, "", "roster", "plan", "dom.example", "--config", config); !strings.HasPrefix(plan, "# 0 commands for 1 users") {
		t.Errorf("plan when all is done:\n%s", plan)
	}
	for _, scope := range [][]string{nil, {"dom.example"}, {"user0@dom.example"}} {
		_ = os.Remove(notes)
		if out := ok(t, "", append([]string{"roster", "refresh", "--config", config}, scope...)...); out != "forgotten; being rebuilt for 1 users\n" {
			t.Errorf("refresh %v: %s", scope, out)
		}
		want := all
		if len(scope) > 0 && strings.Contains(scope[0], "@") {
			want = strings.Replace(all, "set_vcard user1 dom.example FN Name of user1\n", "", 1)
		}
		fileSays(t, notes, want)
		waitFor(t, "the rebuilding is known", func() bool { return shownRoster(t, config, "user0@dom.example").Complete })
	}
	for _, bad := range []string{"plan other.example", "forget-group nothing", "forget-group @dom.example", "show dom.example", "plan a@b@c"} {
		if r := command(t, "", append(append([]string{"roster"}, strings.Fields(bad)...), "--config", config)...); r.code == 0 || r.err == "" {
			t.Errorf("%s: %+v", bad, r)
		}
	}
	s.stop(syscall.SIGTERM)

	if out := ok(t, "", "roster", "refresh", "--config", config); !strings.Contains(out, "no daemon") {
		t.Errorf("refresh without a daemon: %s", out)
	}
	if shown := shownRoster(t, config, "user0@dom.example"); shown.Complete || shown.FullName != nil || len(shown.Doubtful) != 1 || len(shown.Own) != 1 {
		t.Errorf("after a refresh: %+v", shown)
	}
	_ = os.Remove(notes)
	ok(t, "", "roster", "forget-group", "Team A@dom.example", "--config", config)
	if shown := shownRoster(t, config, "user0@dom.example"); len(shown.Groups) > 0 || len(shown.Own) > 0 {
		t.Errorf("after forget-group: %+v", shown)
	}
	fileSays(t, notes, "srg_get_members Team A dom.example\n")
}

// The daemon is killed while the XMPP server is away: the next one begins where it stopped.
func TestRosterSurvivesKill(t *testing.T) {
	c := newCloud(t)
	program, notes := rosterScript(t)
	down := filepath.Join(filepath.Dir(notes), "down")
	config := c.rosterConfig(t, `roster "ejabberd" {
    ejabberdctl  = "`+program+`"
    window       = "10ms"
    min_interval = "0s"
  }`)
	c.team("Team", 0, 2)
	s := serve(t, "--config", config)
	s.logIn(0, 1)
	waitFor(t, "the run is known", func() bool { return shownRoster(t, config, "user0@dom.example").Complete })
	if err := os.WriteFile(down, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(notes)
	c.team("Team", 0, 3)
	s.logIn(0, 1)
	s.eventually("the outage is logged", func() bool { return strings.Contains(s.log.String(), "exit status 3") })
	_ = s.cmd.Process.Kill()
	<-s.ended
	if err := os.Remove(down); err != nil {
		t.Fatal(err)
	}
	s = serve(t, "--config", config)
	s.logIn(0, 1)
	fileSays(t, notes, "srg_user_add user2 dom.example Team dom.example\n")
	waitFor(t, "the run is known", func() bool { return shownRoster(t, config, "user0@dom.example").Complete })
	if n := strings.Count(readText(notes), "set_vcard user2"); n != 1 {
		t.Errorf("user2 was named %d times:\n%s", n, readText(notes))
	}
	if strings.Contains(readText(notes), "set_vcard user0") {
		t.Errorf("what was done is done again:\n%s", readText(notes))
	}
}
