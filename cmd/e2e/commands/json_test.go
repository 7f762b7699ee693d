package commands

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// TestJSON: what commands print with --json has the fields of their pages, with their exit status.
func TestJSON(t *testing.T) {
	dir := t.TempDir()
	text := `listen "generic" { address = "127.0.0.1:0" }
backend "users" "local" {}
domain "dom.example" {
  backends = [backend.users.local]
  token "jsxc" { secrets = ["jsxc-secret"] }
}
registry {}
`
	config := harness.ConfigFile(t, dir, text)
	harness.OK(t, "secret", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	if got := harness.Exchange(t, s.Address("generic"), "auth:joe:dom.example:wrong\nisuser:joe:dom.example\n"); got != "0\n1\n" {
		t.Fatalf("%q", got)
	}
	token := harness.OK(t, "", "token", "issue", "joe@dom.example", "--config", config)
	list := dir + "/domains.json"
	harness.WriteFile(t, list, `[{"domain": "reg.example", "backend": "users"}]`)
	changed := harness.ReadText(config) + "domain \"more.example\" { backends = [backend.users.local] }\n"
	if err := os.WriteFile(config, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	wrong := harness.ConfigFile(t, t.TempDir(), "backend \"users\" \"local\" { colour = 1 }\n")

	for _, c := range []struct {
		stdin, args string
		code        int
		want        map[string]any // some of the fields
	}{
		{"", "config check", 0, map[string]any{"file": config, "ok": true, "listeners": 1., "backends": 1., "domains": 2., "problems": []any{}}},
		{"", "config check " + wrong, 1, map[string]any{"file": wrong, "ok": false, "domains": 0., "notes": []any{}}},
		{"", "reload", 0, map[string]any{"warnings": []any{}}},
		{"", "limit forget joe@dom.example", 0, map[string]any{"name": "joe@dom.example", "refusals": 1., "pauses": 0.}},
		{"", "forget joe@dom.example", 0, map[string]any{"name": "joe@dom.example", "users": 1., "refusals": 1., "exists": true, "roster": map[string]any{"users": 0., "groups": 0.}}},
		{"", "forget dom.example", 0, map[string]any{"name": "dom.example", "users": 0., "exists": false}},
		{"", "cache forget joe@dom.example", 0, map[string]any{"name": "joe@dom.example", "users": 0.}},
		{"", "cache flush", 0, map[string]any{"name": "all users", "users": 0.}},
		{"", "domain import " + list, 0, map[string]any{"imported": 1., "new": 1.}},
		{"", "roster refresh", 0, map[string]any{"count": 0.}},
		{token, "token inspect", 0, map[string]any{"kind": "jsxc", "expired": false}},
	} {
		got := harness.Command(t, c.stdin, append(strings.Fields(c.args), "--json", "--config", config)...)
		var said map[string]any
		if err := json.Unmarshal([]byte(got.Out), &said); err != nil || got.Code != c.code {
			t.Errorf("%s: exit status %d, %v: %s%s", c.args, got.Code, err, got.Out, got.Err)
		}
		for name, want := range c.want {
			if found, _ := json.Marshal(said[name]); string(found) != marshal(t, want) {
				t.Errorf("%s: %s is %s, want %v", c.args, name, found, want)
			}
		}
		page := strings.Join(strings.Fields(harness.OK(t, "", append(strings.Fields(c.args), "--help")...)), " ")
		_, fields, _ := strings.Cut(page, "With --json: ")
		for _, name := range slices.Sorted(maps.Keys(said)) {
			if !strings.Contains(" "+strings.NewReplacer(",", " ", ".", " ", "(", " ", ")", " ").Replace(fields)+" ", " "+name+" ") {
				t.Errorf("%s: the field %s is not on the page: %s", c.args, name, fields)
			}
		}
	}
	type problem struct {
		Severity, File, Message string
		Line, Column            int
	}
	faults := harness.Decode[struct{ Problems []problem }](t, harness.Command(t, "", "config", "check", wrong, "--json").Out).Problems
	if want := (problem{"error", wrong, "unknown attribute colour", 2, 27}); !slices.Contains(faults, want) {
		t.Errorf("%+v is not among %+v", want, faults)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
