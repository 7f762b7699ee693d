package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/actors"
	"postern/actors/memory"
	"postern/actors/slots"
	"postern/cmd/internal/configfile"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/internal/registry"
)

// TestShown: what commands show as text says all that it has.
func TestShown(t *testing.T) {
	now := time.Now()
	name := "Ann"
	for what, c := range map[string]struct {
		write func(w *strings.Builder) error
		want  []string
	}{
		"cached user": {func(w *strings.Builder) error {
			return writeCachedUser(w, control.CachedUser{User: "ann@a.example", Exists: "yes", ExistsAt: &now, Refused: 2,
				Verifiers: []control.CachedVerifier{{First: now, OnDisk: true, Stale: true, InMemory: true}}})
		}, []string{"ann@a.example\n", "exists: yes, asked 2", "accepted passwords: 1\n", "remembered: 2\n", "never", "in memory, on disk", "stale"}},
		"unknown user": {func(w *strings.Builder) error {
			return writeCachedUser(w, control.CachedUser{User: "ann@a.example", Exists: "unknown"})
		}, []string{"exists: unknown\naccepted passwords: 0\n"}},
		"stats": {func(w *strings.Builder) error {
			return writeCacheStats(w, control.CacheStats{Running: true, StoreFailed: "disk full", DiskBytes: 77,
				Memory: map[string]memory.Stats{"a.example": {Users: 3, LimitUser: 1, LimitBudget: 4}}, Disk: map[string]int{"a.example": 8, "b.example": 9}})
		}, []string{"disk full", "on disk: 77 bytes", "a.example  8 ", "b.example  9 ", "  5\n"}},
		"stats without a daemon": {func(w *strings.Builder) error { return writeCacheStats(w, control.CacheStats{}) }, []string{"no daemon is running"}},
		"limited": {func(w *strings.Builder) error {
			return writeLimited(w, actors.Limited{Name: "ann@a.example", Refusals: 9})
		}, []string{"not limited, refused passwords: 9"}},
		"limits": {func(w *strings.Builder) error {
			past, soon := now.Add(-time.Hour), now.Add(time.Hour)
			return writeLimits(w, actors.Limits{
				Addresses: actors.WatchList{Watched: 3, Limited: []actors.Limited{{Name: "192.0.2.7/32", Until: &soon}}},
				Backends: map[string]actors.BackendLimits{
					"backend.x": {Limits: slots.Limits{Refusals: 2, Most: 8, Withheld: 5, Delay: time.Second}, Users: actors.WatchList{Limited: []actors.Limited{{Name: "ann", Until: &past}}}},
					"backend.y": {Limits: slots.Limits{Exempt: true}},
				},
			})
		}, []string{"client addresses: 1 limited, 3 more", "192.0.2.7/32: limited until", "backend.x, accounts: 1 limited", "ann: was limited until", "2 of 8 used, 5 questions", "by 1s", "does not count refusals"}},
		"domain": {func(w *strings.Builder) error {
			return writeDomain(w, control.ShownDomain{Entry: registry.Entry{Domain: "a.example", Kind: "jsxc", URL: "https://x"}, HasSecret: true})
		}, []string{"a.example\n", "jsxc", "https://x", "--show-secrets"}},
		"roster": {func(w *strings.Builder) error {
			return writeRoster(w, control.RosterUser{User: "ann@a.example", FullName: &name, Groups: map[string]int{"Team": 4}, Own: []string{"Team"}, Doubtful: []string{"Old"}, Complete: true})
		}, []string{"full name: Ann\n", "Team   4\n", "being changed: Old", "carried out: yes"}},
	} {
		var b strings.Builder
		if err := c.write(&b); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %q in\n%s", what, want, b.String())
			}
		}
	}
}

// TestPermitted: an error for want of a permission says which user has it, and another error does not.
func TestPermitted(t *testing.T) {
	denied := fmt.Errorf("read: %w", fs.ErrPermission)
	for _, c := range []struct {
		euid        int
		owner, want string
	}{
		{0, "postern", "read: permission denied"},
		{4711, "postern", "read: permission denied: run it as root or as postern (sudo -u postern postern ...)"},
		{4711, "root", "read: permission denied: run it as root"},
		{4711, "4711", "read: permission denied: run it as root"},
		{4711, "", "read: permission denied: run it as root"},
	} {
		if got := permittedAs(c.euid, func() string { return c.owner }, denied); !errors.Is(got, fs.ErrPermission) || got.Error() != c.want {
			t.Errorf("as %d, of %s: %q", c.euid, c.owner, got)
		}
	}
	asked := func() string { t.Error("the configuration is read for another error"); return "" }
	for _, err := range []error{nil, errors.New("other")} {
		if got := permittedAs(4711, asked, err); got != err {
			t.Error(got)
		}
	}
}

// TestOwner: the user that may do it is that of the data directory which the flags name.
func TestOwner(t *testing.T) {
	dir := t.TempDir()
	me := datadir.UserName(os.Geteuid())
	config := filepath.Join(dir, "config.hcl")
	if err := os.WriteFile(config, []byte("data_dir = \""+dir+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []configfile.Flags{{File: config}, {Embedded: true, DataDir: dir}} {
		a := &app{Flags: flags}
		if got := a.owner(); got != me {
			t.Errorf("%+v: %q, want %q", flags, got, me)
		}
	}
	if got := (&app{Flags: configfile.Flags{Embedded: true, DataDir: "/nowhere"}}).owner(); got != "" && got != datadir.ServiceUserName {
		t.Errorf("of a directory that is not there: %q", got)
	}
}
