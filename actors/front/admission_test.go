package front

import (
	"errors"
	"os"
	"os/user"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
)

// TestAdmission: processes of the users that are named may connect, and of those some may make changes. A user
// that comes to exist later is found then.
func TestAdmission(t *testing.T) {
	machine := map[string]int{"ejabberd": 101, "prosody": 102}
	var absent []string
	broken := false
	a := &admission{
		own:    func(uid int) bool { return uid == 0 },
		cfg:    config.Listener{Users: []string{"ejabberd", "prosody", "dovecot"}, Changes: true, ChangeUsers: []string{"ejabberd", "dovecot"}},
		absent: func(user string, _ error) { absent = append(absent, user) },
		uid: func(name string) (int, error) {
			if uid, ok := machine[name]; ok {
				return uid, nil
			}
			if broken {
				return anyUser, errors.New("too many open files")
			}
			return anyUser, user.UnknownUserError(name)
		},
	}
	now := time.Now()
	a.look(now)
	want := func(uid int, after time.Duration, admitted, changes bool) {
		t.Helper()
		if got := a.admits(uid, now.Add(after)); got != admitted {
			t.Errorf("uid %d after %v: admitted %t", uid, after, got)
		}
		if got := a.changes(uid, now.Add(after)); got != changes {
			t.Errorf("uid %d: changes %t", uid, got)
		}
	}
	want(0, 0, true, true)
	want(101, 0, true, true)
	want(102, 0, true, false)
	want(103, 0, false, false)
	want(anyUser, 0, false, false)
	if !slices.Equal(absent, []string{"dovecot"}) {
		t.Errorf("said to be absent: %v", absent)
	}
	machine["dovecot"] = 103
	want(103, lookAgain-time.Second, false, false)
	want(103, lookAgain, true, true)
	want(104, 2*lookAgain, false, false)
	delete(machine, "ejabberd")
	broken = true
	want(101, 3*lookAgain, true, true) // it may exist
	broken = false
	want(101, 4*lookAgain, false, false)
	machine["ejabberd"] = 105 // it was installed again
	want(105, 5*lookAgain, true, true)
	a.cfg.Users = nil
	want(104, 0, true, false)
	a.cfg.ChangeUsers = nil
	want(104, 0, true, true)
	a.cfg.Changes = false
	want(0, 0, true, false)
}

// TestStrangersAreClosed: on a socket for other users a peer that is one of them is served, and one that is none
// of them is closed without a word, and logged once. A reload changes that for open connections, too.
func TestStrangersAreClosed(t *testing.T) {
	const login, change = "auth:joe:dom.example:good\n", "setpass:joe:dom.example:new\n"
	r := newRig(t)
	r.inMemory(func(auth.Request) auth.Answer { return auth.Answer{Verdict: auth.Allow} })
	r.own = func(int) bool { return false }
	r.uid = func(name string) (int, error) {
		if name == "ejabberd" {
			return os.Geteuid(), nil
		}
		return os.Geteuid() + 1, nil
	}
	block := func(users, changes []string) config.Listener {
		cfg := listenerBlock("generic")
		cfg.Network, cfg.Users, cfg.Changes, cfg.ChangeUsers = "unix", users, true, changes
		return cfg
	}
	both := []string{"ejabberd", "prosody"}
	first, second, third := block(both, nil), block(both, []string{"prosody"}), block([]string{"prosody"}, nil)
	address := r.listenOn("unix", first)
	c := r.dial(address)
	roundTrip(t, c, login+change, "1\n1\n")
	r.reload([]config.Listener{first}, []config.Listener{second})
	roundTrip(t, c, login+change, "1\n0\n")
	if log := r.log.String(); !strings.Contains(log, "add the user to changes in listen") || strings.Contains(log, "changes = true") {
		t.Errorf("a change that is refused: %s", log)
	}
	r.reload([]config.Listener{second}, []config.Listener{third})
	ended(t, c, "")
	for range 3 {
		ended(t, r.dial(address), "")
	}
	if n := strings.Count(r.log.String(), "its connection is closed"); n != 1 {
		t.Errorf("%d lines: %s", n, r.log.String())
	}
	r.reload([]config.Listener{third}, []config.Listener{first})
	roundTrip(t, r.dial(address), login, "1\n")
}

func TestUIDOf(t *testing.T) {
	for name, want := range map[string]int{"root": 0, "4711": 4711} {
		if uid, err := uidOf(name); uid != want || err != nil {
			t.Errorf("%s: %d, %v", name, uid, err)
		}
	}
	if uid, err := uidOf("no such user"); err == nil {
		t.Errorf("an absent user is %d", uid)
	}
}
