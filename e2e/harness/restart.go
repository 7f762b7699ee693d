package harness

import (
	"strings"
	"syscall"
	"testing"
)

// Restartable is a daemon with a generic listener on which commands are tried in both ways:
// while it runs, and while it does not.
type Restartable struct {
	T      *testing.T
	Config string
	Stays  bool // it runs during Meanwhile
	Server *Server
}

// BothWays runs a test with a daemon that stays and with one that is stopped.
func BothWays(t *testing.T, config func(t *testing.T) string, test func(t *testing.T, d *Restartable)) {
	for name, stays := range map[string]bool{"daemon": true, "no daemon": false} {
		t.Run(name, func(t *testing.T) { test(t, &Restartable{T: t, Config: config(t), Stays: stays}) })
	}
}

// Running is the daemon, which is started if it does not run.
func (r *Restartable) Running() *Server {
	r.T.Helper()
	if r.Server == nil {
		r.Server = Serve(r.T, "--config", r.Config)
	}
	return r.Server
}

// Meanwhile does something with the daemon running, or stopped.
func (r *Restartable) Meanwhile(do func()) {
	r.T.Helper()
	switch {
	case r.Stays:
		r.Running()
	case r.Server != nil:
		if code := r.Server.Stop(syscall.SIGTERM); code != 0 {
			r.T.Errorf("the daemon ended with status %d", code)
		}
		r.Server = nil
	}
	do()
}

// Command runs a command during Meanwhile; it must succeed.
func (r *Restartable) Command(args ...string) (out string) {
	r.T.Helper()
	r.Meanwhile(func() { out = OK(r.T, "", append(args, "--config", r.Config)...) })
	return out
}

// Ask puts questions in the line protocol.
func (r *Restartable) Ask(questions string) string {
	r.T.Helper()
	return Exchange(r.T, r.Running().Address("generic"), questions)
}

// Remembers waits until the running daemon has made the hash of a user's password, which it
// does after the answer.
func (r *Restartable) Remembers(address string) {
	r.T.Helper()
	r.Running().Eventually("hash of "+address, func() bool {
		shown := Decode[CacheShown](r.T, OK(r.T, "", "cache", "show", address, "--config", r.Config))
		return len(shown.Verifiers) > 0 && shown.Verifiers[0].OnDisk
	})
}

// Data is the data directory, from the first line that ConfigFile writes.
func (r *Restartable) Data() string {
	line, _, _ := strings.Cut(ReadText(r.Config), "\n")
	return strings.Trim(strings.TrimPrefix(line, "data_dir = "), `"`)
}
