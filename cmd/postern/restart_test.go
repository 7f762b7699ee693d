package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
)

// restartable is a daemon with a generic listener on which commands are tried in both ways:
// while it runs, and while it does not.
type restartable struct {
	t      *testing.T
	config string
	stays  bool // it runs while meanwhile does
	s      *server
}

// bothWays runs a test with a daemon that stays and with one that is stopped.
func bothWays(t *testing.T, config func(t *testing.T) string, test func(t *testing.T, d *restartable)) {
	for name, stays := range map[string]bool{"daemon": true, "no daemon": false} {
		t.Run(name, func(t *testing.T) { test(t, &restartable{t: t, config: config(t), stays: stays}) })
	}
}

// running is the daemon, which is started if it does not run.
func (r *restartable) running() *server {
	r.t.Helper()
	if r.s == nil {
		r.s = serve(r.t, "--config", r.config)
	}
	return r.s
}

// meanwhile does something with the daemon running, or stopped.
func (r *restartable) meanwhile(do func()) {
	r.t.Helper()
	switch {
	case r.stays:
		r.running()
	case r.s != nil:
		if code := r.s.stop(syscall.SIGTERM); code != 0 {
			r.t.Errorf("the daemon ended with status %d", code)
		}
		r.s = nil
	}
	do()
}

// command runs a command meanwhile; it must succeed.
func (r *restartable) command(args ...string) (out string) {
	r.t.Helper()
	r.meanwhile(func() { out = ok(r.t, "", append(args, "--config", r.config)...) })
	return out
}

// ask puts questions in the line protocol.
func (r *restartable) ask(questions string) string {
	r.t.Helper()
	return exchange(r.t, r.running().address("generic"), questions)
}

// remembers waits until the running daemon has made the hash of a user's password, which it
// does after the answer.
func (r *restartable) remembers(address string) {
	r.t.Helper()
	r.running().eventually("hash of "+address, func() bool {
		shown := decode[cacheShown](r.t, ok(r.t, "", "cache", "show", address, "--config", r.config))
		return len(shown.Verifiers) > 0 && shown.Verifiers[0].OnDisk
	})
}

// data is the data directory, from the first line that configFile writes.
func (r *restartable) data() string {
	line, _, _ := strings.Cut(readText(r.config), "\n")
	return strings.Trim(strings.TrimPrefix(line, "data_dir = "), `"`)
}

// decode reads a command's JSON.
func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}
