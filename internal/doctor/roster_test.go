package doctor

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
)

// script writes a shell script.
func script(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ejabberdctl")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

// rosterOf examines the rosters of a domain.
func rosterOf(t *testing.T, e *Env, r config.Roster) Report {
	t.Helper()
	cfg := &config.Config{DataDir: "/", Domains: []config.Domain{{Name: "none.example"}, {Name: "dom.example", Roster: &r}}}
	report := NewReport("", time.Now(), Run(t.Context(), e.rosters("", cfg)))
	holdsNoSecret(t, report)
	return report
}

func TestEjabberdctl(t *testing.T) {
	for name, c := range map[string]struct {
		mode os.FileMode
		text string
		want want
	}{
		"good":           {0o755, `test "$*" = status`, want{check: "status", status: OK, text: "reaches it"}},
		"no node":        {0o755, "exit 3", want{check: "status", status: Failure, text: "does not reach ejabberd", cure: "start ejabberd"}},
		"fails":          {0o755, "exit 1", want{check: "status", status: Failure, text: "exit status 1", cure: "use api"}},
		"not executable": {0o644, "", want{check: "ejabberdctl", status: Failure, text: "cannot be executed", cure: "roster block"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.hop = "roster.dom.example"
			c.want.expect(t, rosterOf(t, OSEnv(), config.Roster{Ejabberdctl: script(t, c.mode, c.text)}))
		})
	}
	e := OSEnv()
	want{"roster.dom.example", "ejabberdctl", Failure, "no such file", "correct ejabberdctl"}.expect(t,
		rosterOf(t, e, config.Roster{Ejabberdctl: "/nowhere/ejabberdctl"}))
	e.Run = func(context.Context, string, ...string) error { return &exec.Error{Name: "x", Err: os.ErrPermission} }
	want{"roster.dom.example", "status", Failure, "may not execute", "use api"}.expect(t,
		rosterOf(t, e, config.Roster{Ejabberdctl: script(t, 0o755, "")}))
}

func TestEjabberdAPI(t *testing.T) {
	for name, c := range map[string]struct {
		members, status int
		want            want
	}{
		"good":       {200, 200, want{status: OK, text: "accepts postern"}},
		"no group":   {404, 200, want{status: OK, text: "accepts postern"}},
		"no command": {404, 404, want{status: Failure, text: "is not at", cure: "mod_http_api"}},
		"no right":   {403, 200, want{status: Failure, text: "does not let postern", cure: "api_permissions"}},
		"no token":   {401, 401, want{status: Failure, text: "HTTP 401", cure: "token"}},
		"elsewhere":  {302, 302, want{status: Failure, text: "instead of", cure: "ejabberd itself"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+canary || r.Method != http.MethodPost {
					t.Errorf("%s %s with %q", r.Method, r.URL, r.Header.Get("Authorization"))
				}
				w.Header().Set("Location", "http://127.0.0.1:9/")
				w.WriteHeader(map[string]int{"/api/srg_get_members": c.members, "/api/status": c.status}[r.URL.Path])
			}))
			defer s.Close()
			c.want.hop, c.want.check = "roster.dom.example", "api"
			c.want.expect(t, rosterOf(t, OSEnv(), config.Roster{API: s.URL + "/api/", Token: auth.NewSecret(canary)}))
		})
	}
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	want{"roster.dom.example", "api", Failure, "no server listens", "start ejabberd"}.expect(t,
		rosterOf(t, OSEnv(), config.Roster{API: s.URL}))
}

func TestGroupsFile(t *testing.T) {
	m := newMachine()
	m.files["/"] = dir(0o755, posternUID, posternUID)
	m.files["/var/lib/prosody"] = dir(0o755, 0, 0)
	for file, w := range map[string]want{
		"/var/lib/postern/groups.txt": {status: OK, text: "can be replaced"},
		"/var/lib/prosody/groups.txt": {status: Failure, text: "postern cannot write in /var/lib/prosody", cure: "chown postern"},
		"/nowhere/groups.txt":         {status: Failure, text: "the directory of /nowhere/groups.txt", cure: "create it"},
	} {
		w.hop, w.check = "roster.dom.example", "groups-file"
		w.expect(t, rosterOf(t, m.Env, config.Roster{GroupsFile: file}))
	}
}
