package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/auth"
)

// script writes a program.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	listStep = Step{Command: GetMembers, Group: "G", Home: "d.example"}
	addStep  = Step{Command: UserAdd, User: "u", Host: "d.example", Group: "G", Home: "d.example"}
	makeStep = Step{Command: Create, Group: "G", Home: "d.example"}
)

func TestEjabberdctl(t *testing.T) {
	for _, c := range []struct {
		name, program string
		refused       bool
		want          string // in the error; "" for none
	}{
		{"well", "exit 0", false, ""},
		{"refused", "echo why >&2; echo too; exit 1", true, "exit status 1: why too"},
		{"no node", "echo down >&2; exit 3", false, "exit status 3: down"},
		{"killed", "kill -9 $$", false, "signal: killed"},
		{"hangs", "sleep 600 & sleep 600", false, "did not end within"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := NewEjabberdctl(script(t, c.program), 10*time.Second)
			if c.name == "hangs" {
				x = NewEjabberdctl(script(t, c.program), 100*time.Millisecond)
			}
			defer x.Close()
			_, err := x.Do(context.Background(), addStep)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrRefused) != c.refused {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := NewEjabberdctl("/nonexistent/ejabberdctl", time.Second).Do(context.Background(), addStep); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("a missing program: %v", err)
	}
	out := filepath.Join(t.TempDir(), "arguments")
	x := NewEjabberdctl(script(t, `for a; do echo "<$a>" >>`+out+`; done
printf '=ERROR REPORT==== 1-Jan ===\ninet_config: file x@y not found\na@d.example\nb@d.example\r\n\n'`), 10*time.Second)
	members, err := x.Do(context.Background(), listStep)
	if err != nil || !slices.Equal(members, []string{"a@d.example", "b@d.example"}) {
		t.Errorf("members %q, %v", members, err)
	}
	if _, err := x.Do(context.Background(), Step{Command: SetVCard, User: "u", Host: "d", Name: `-x "y" $(z)`}); err != nil {
		t.Error(err)
	}
	text, _ := os.ReadFile(out)
	if want := "<srg_get_members>\n<G>\n<d.example>\n<set_vcard>\n<u>\n<d>\n<FN>\n<-x \"y\" $(z)>\n"; string(text) != want {
		t.Errorf("arguments %s", text)
	}
}

// The arguments of each command, those of srg_create as servers before and since 21.07 want them.
// TestKick: the command that ends a user's sessions has two arguments, and its answer is a number.
func TestKick(t *testing.T) {
	kick := Step{Command: Kick, User: "u", Host: "d.example"}
	said := filepath.Join(t.TempDir(), "said")
	x := NewEjabberdctl(script(t, "echo \"$@\" > "+said+"; echo 2"), 10*time.Second)
	defer x.Close()
	if _, err := x.Do(context.Background(), kick); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(said); err != nil || string(text) != "kick_user u d.example\n" {
		t.Errorf("called with %q, %v", text, err)
	}
	var path, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		path, body = r.URL.Path, string(text)
		_, _ = io.WriteString(w, "2")
	}))
	defer server.Close()
	api := NewEjabberdAPI(server.URL+"/api", auth.Secret{}, 10*time.Second)
	defer api.Close()
	if _, err := api.Do(context.Background(), kick); err != nil || path != "/api/kick_user" || body != `{"host":"d.example","user":"u"}` {
		t.Errorf("posted %s to %s, %v", body, path, err)
	}
}

func TestEjabberdAPI(t *testing.T) {
	var status int
	var body, seen string
	var needs string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		seen = r.Method + " " + r.URL.Path + " " + r.Header.Get("Authorization") + " " + string(text)
		var args map[string]any
		_ = json.Unmarshal(text, &args)
		if needs != "" && args[needs] == nil {
			http.Error(w, fmt.Sprintf("%q", "Request have missing argument: "+needs), http.StatusBadRequest)
			return
		}
		if status != 0 {
			w.WriteHeader(status)
		}
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	x := NewEjabberdAPI(server.URL+"/api/", auth.NewSecret("geheim"), 10*time.Second)
	defer x.Close()
	do := func(s Step) error { _, err := x.Do(context.Background(), s); return err }

	body, needs = "0", "label"
	if err := do(makeStep); err != nil || seen != `POST /api/srg_create Bearer geheim {"description":"G","display":["G"],"group":"G","host":"d.example","label":"G"}` {
		t.Errorf("%s: %v", seen, err)
	}
	needs = "name"
	for range 2 {
		if err := do(makeStep); err != nil || !strings.HasSuffix(seen, `{"description":"G","display":"G","group":"G","host":"d.example","name":"G"}`) {
			t.Errorf("%s: %v", seen, err)
		}
	}
	needs = ""
	if err := do(addStep); err != nil || !strings.HasSuffix(seen, `srg_user_add Bearer geheim {"group":"G","grouphost":"d.example","host":"d.example","user":"u"}`) {
		t.Errorf("%s: %v", seen, err)
	}
	if err := do(Step{Command: SetVCard, User: "u", Host: "d", Name: "Ä"}); err != nil || !strings.HasSuffix(seen, `{"content":"Ä","host":"d","name":"FN","user":"u"}`) {
		t.Errorf("%s: %v", seen, err)
	}
	body = `["a@d.example"]`
	if members, err := x.Do(context.Background(), listStep); err != nil || !slices.Equal(members, []string{"a@d.example"}) {
		t.Errorf("members %q, %v", members, err)
	}
	for _, c := range []struct {
		status  int
		body    string
		refused bool
	}{
		{200, "1", true}, {500, `"internal_error"`, true}, {400, `"Request have missing argument: x"`, true},
		{401, "", false}, {403, "", false}, {404, "", false}, {503, "", false}, {302, "", false},
	} {
		status, body = c.status, c.body
		if err := do(addStep); err == nil || errors.Is(err, ErrRefused) != c.refused || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
	}
	server.Close()
	if err := do(addStep); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("no server: %v", err)
	}
}

// The groups file, as mod_groups reads it: nothing in a name can make a line of its own, a
// heading, or a public group.
func TestGroupsFile(t *testing.T) {
	dir := t.TempDir()
	path, reloaded := filepath.Join(dir, "groups.txt"), filepath.Join(dir, "reloaded")
	state := State{newMemory(), "d.example"}
	server := NewGroupsFile(path, []string{script(t, `echo x >>`+reloaded+`; test ! -e `+dir+`/broken`)}, 10*time.Second)
	defer server.Close()
	want := func(text string, reloads int) {
		t.Helper()
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("the file is\n%s\nwant\n%s", got, text)
		}
		if got, _ := os.ReadFile(reloaded); strings.Count(string(got), "x") != reloads {
			t.Errorf("%d reloads, want %d", strings.Count(string(got), "x"), reloads)
		}
	}
	if err := server.Prepare(state); err != nil {
		t.Fatal(err)
	}
	want("", 0)
	doc := document("u1=Ann\n[x]: +Team=[1],+; u2=B]: +Team=[1]; [u3]=C: +Team=[1]; u5: Solo")
	doc = strings.Replace(doc, `"sharedRoster":{`, `"sharedRoster":{"u=4":{"groups":["+Team=[1]"]},`, 1)
	previews := func(doc, lines string) {
		t.Helper()
		v, err := server.Preview(t.Context(), planFor(t, state, "u1", doc))
		if got := strings.Join(v.Lines, "\n"); err != nil || got != lines || v.File != path {
			t.Errorf("the preview of %s is\n%s\n%v, want\n%s", v.File, got, err, lines)
		}
	}
	previews(doc, "+[Solo]\n+u5@d.example\n+[Team=[1]]\n+u1@d.example=Ann[x\n+u2@d.example=B")
	want("", 0)
	if err := logsIn(server, state, &Filter{}, "u1", doc); err != nil {
		t.Fatal(err)
	}
	first := "[Team=[1]]\nu1@d.example=Ann[x\nu2@d.example=B\n[Solo]\nu5@d.example\n"
	want(first, 1)
	if err := logsIn(server, state, &Filter{}, "u1", doc); err != nil {
		t.Fatal(err)
	}
	want(first, 1) // nothing has changed
	if err := os.WriteFile(dir+"/broken", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	last := document("u1=Ann: Solo; u5: Solo")
	previews(doc, "")
	previews(last, " [Solo]\n+u1@d.example=Ann\n [Team=[1]]\n-u1@d.example=Ann[x")
	if err := logsIn(server, state, &Filter{}, "u1", last); err == nil {
		t.Error("Prosody could not be reloaded, but there is no error")
	}
	if err := os.Remove(dir + "/broken"); err != nil {
		t.Fatal(err)
	}
	if err := logsIn(server, state, &Filter{}, "u1", last); err != nil {
		t.Fatal(err)
	}
	want("[Team=[1]]\nu2@d.example=B\n[Solo]\nu1@d.example=Ann\nu5@d.example\n", 3)
	removal, err := NewRemoval(state, "Solo")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Apply(context.Background(), removal); err != nil {
		t.Fatal(err)
	}
	want("[Team=[1]]\nu2@d.example=B\n", 4)
}

// Every user that could read the groups file can read the one that replaces it, or it is not
// replaced.
func TestGroupsFileOwner(t *testing.T) {
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 { // only root can give files away
		uid, gid = 4711, 4712
	}
	all := func(int, int) bool { return true }
	for _, c := range []struct {
		name   string
		mode   os.FileMode
		allows func(uid, gid int) bool // to be given to a file; -1: as it is
		fails  bool
	}{
		{"both are kept", 0o640, all, false},
		{"owner alone may read", 0o600, all, false},
		{"group is not", 0o640, func(_, gid int) bool { return gid < 0 }, true},
		{"group is not, but others may read", 0o644, func(_, gid int) bool { return gid < 0 }, false},
		{"group is not, but only the owner may read", 0o600, func(_, gid int) bool { return gid < 0 }, false},
		{"owner is not", 0o600, func(uid, _ int) bool { return uid < 0 }, true},
		{"owner is not, but the group may read", 0o640, func(uid, _ int) bool { return uid < 0 }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "groups.txt")
			if err := errors.Join(os.WriteFile(path, []byte("old"), 0o600), os.Chown(path, uid, gid), os.Chmod(path, c.mode)); err != nil {
				t.Fatal(err)
			}
			f := NewGroupsFile(path, nil, time.Second).(*groupsFile)
			var given [2]int
			f.chown = func(file *os.File, uid, gid int) error {
				if !c.allows(uid, gid) {
					return os.ErrPermission
				}
				given = [2]int{uid, gid}
				return file.Chown(uid, gid)
			}
			changed, err := f.write([]byte("new"))
			text, _ := os.ReadFile(path)
			if (err != nil) != c.fails || changed == c.fails || (string(text) == "old") != c.fails {
				t.Errorf("the file holds %q, changed %t, %v", text, changed, err)
			}
			info, _ := os.Stat(path)
			if info.Mode() != c.mode {
				t.Errorf("mode %v, want %v", info.Mode(), c.mode)
			}
			owner := info.Sys().(*syscall.Stat_t)
			if c.allows(uid, gid) && (int(owner.Uid) != uid || int(owner.Gid) != gid || given != [2]int{uid, gid}) {
				t.Errorf("it belongs to %d:%d, want %d:%d", owner.Uid, owner.Gid, uid, gid)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
