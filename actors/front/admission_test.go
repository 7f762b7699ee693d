package front

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/config"
)

// TestAdmission: processes of the users that are named may connect, and of those some may make changes. A user
// that comes to exist later is found then.
func TestAdmission(t *testing.T) {
	machine := map[string]int{"ejabberd": 101, "prosody": 102}
	var absent []string
	a := &admission{
		cfg:    config.Listener{Users: []string{"ejabberd", "prosody", "dovecot"}, Changes: true, ChangeUsers: []string{"ejabberd", "dovecot"}},
		absent: func(user string, _ error) { absent = append(absent, user) },
		uid: func(name string) (int, error) {
			if uid, ok := machine[name]; ok {
				return uid, nil
			}
			return anyUser, errors.New("no such user")
		},
	}
	now := time.Now()
	a.look(now)
	want := func(uid int, after time.Duration, admitted, changes bool) {
		t.Helper()
		if got := a.admits(uid, now.Add(after)); got != admitted {
			t.Errorf("uid %d after %v: admitted %t", uid, after, got)
		}
		if got := a.changes(uid); got != changes {
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
	a.cfg.Users = nil
	want(104, 0, true, false)
	a.cfg.ChangeUsers = nil
	want(104, 0, true, true)
	a.cfg.Changes = false
	want(0, 0, true, false)
}

// TestStrangersAreClosed: on a socket for other users, a peer that is none of them is closed without a word, and
// logged once; one that is named is served.
func TestStrangersAreClosed(t *testing.T) {
	r := newRig(t)
	r.uid = func(string) (int, error) { return 4711, nil }
	cfg := listenerBlock("generic")
	cfg.Users = []string{"ejabberd"}
	l, err := r.newListener(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if l.admits(peer{uid: 4712, pid: 1}) || !l.admits(peer{uid: 4711, pid: 1}) || !l.admits(peer{uid: 0, pid: 1}) {
			t.Fatal("the wrong ones are admitted")
		}
	}
	if n := strings.Count(r.log.String(), "its connection is closed"); n != 1 {
		t.Errorf("%d lines: %s", n, r.log.String())
	}
}
