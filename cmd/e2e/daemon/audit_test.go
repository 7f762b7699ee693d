package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/audit"
)

// auditBlock has limits with which the third wrong password of an address begins one.
const auditBlock = `
audit { file = "audit.log" }
limit {
  address_refusals = 3
  user_refusals    = 100
}
`

// trail reads an audit log.
func trail(t *testing.T, file string) (list []audit.Event) {
	t.Helper()
	for line := range strings.Lines(harness.ReadText(file)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

// What a daemon and commands do is in the audit log: with the user that has done it and what came of it, over a rotation and a
// reload, and without a secret. Commands write to it without a daemon as well.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	data, dir := t.TempDir(), t.TempDir()
	file, key := filepath.Join(data, "audit.log"), filepath.Join(dir, "app.key")
	harness.WriteFile(t, key, strings.Repeat("ab", 32))
	text := strings.Replace(harness.UsersConfig, "backends = [backend.users.local]", "backends = [backend.app_passwords.devices, backend.users.local]", 1) +
		"backend \"app_passwords\" \"devices\" { key = file(\"" + key + "\") }\nregistry {}\n"
	config := harness.ConfigFile(t, data, text+auditBlock)
	const secret, guessed = "the-secret-of-joe", "a-guess-at-it"
	harness.OK(t, secret+"\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	made := harness.OK(t, "", "password", "add", "joe@dom.example", "--name", "phone", "--config", config)
	harness.OK(t, "", "password", "revoke", "joe@dom.example", "phone", "--config", config)
	for _, n := range "1234" {
		harness.Exchange(t, s.Address("saslauthd"), harness.Fields("joe", guessed+string(n), "imap", "dom.example")+harness.Frame("192.0.2.1;999"))
	}
	harness.FileSays(t, file, "192.0.2.1")
	harness.Exchange(t, s.Address("generic"), "setpass:joe:dom.example:"+secret+"2\n")
	harness.FileSays(t, file, "setpass")
	harness.OK(t, "", "limit", "forget", "192.0.2.1", "--config", config)
	harness.FileSays(t, file, "limit forget")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	s.Signal(syscall.SIGHUP)
	harness.FileSays(t, file, `"event":"reload"`) // in the new file
	harness.WriteFile(t, config, strings.Replace(harness.ReadText(config), `"audit.log"`, `"other.log"`, 1)+`domain "new.example" { backends = [backend.users.local] }`)
	harness.OK(t, "", "reload", "--config", config)
	harness.WriteFile(t, config, harness.ReadText(config)+"nonsense = 1\n")
	if r := harness.Command(t, "", "reload", "--config", config); r.Code == 0 {
		t.Error("nonsense is in force")
	}
	harness.WriteFile(t, config, strings.TrimSuffix(harness.ReadText(config), "nonsense = 1\n"))
	s.Stop(syscall.SIGTERM)
	harness.OK(t, "", "forget", "joe@dom.example", "--config", config)
	harness.OK(t, "", "user", "remove", "joe@dom.example", "--config", config)

	me := func(e audit.Event) audit.Event { e.By = "(me)"; return e }
	joe := func(kind audit.Kind, action, outcome string) audit.Event {
		return audit.Event{Kind: kind, Action: action, Outcome: outcome, Domain: "dom.example", User: "joe"}
	}
	change := joe(audit.Change, "setpass", audit.Done)
	change.Front = "generic"
	want := []audit.Event{
		me(joe(audit.Admin, "user add", audit.Done)),
		{Kind: audit.Daemon, Action: "start"},
		me(joe(audit.Admin, "password add", audit.Done)),
		me(joe(audit.Revoke, "password revoke", audit.Done)),
		{Kind: audit.Limit, Action: "address", Client: "192.0.2.1", Network: "192.0.2.1/32", Domain: "dom.example", User: "joe", Front: "saslauthd", Refusals: 3, Window: "10m0s"},
		change,
		me(audit.Event{Kind: audit.Admin, Action: "limit forget", Outcome: audit.Done, Client: "192.0.2.1"}),
		{Kind: audit.Reload, Outcome: audit.Done}, // by the signal
		me(audit.Event{Kind: audit.Reload, Outcome: audit.Done, Changes: []string{"domain new.example added", "audit changed"}}),
		me(audit.Event{Kind: audit.Reload, Outcome: audit.Failed}),
		{Kind: audit.Daemon, Action: "stop"},
		me(joe(audit.Admin, "forget", audit.Done)),
		me(joe(audit.Admin, "user remove", audit.Done)),
	}
	all := ""
	var got []audit.Event
	for _, name := range []string{"audit.log.1", "audit.log", "other.log"} {
		all += harness.ReadText(filepath.Join(data, name))
		got = append(got, trail(t, filepath.Join(data, name))...)
	}
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d:\n%s", len(got), len(want), all)
	}
	for i, e := range got {
		if len(e.IDs) != 0 != (strings.HasPrefix(e.Action, "password")) || (e.Outcome == audit.Failed) != (e.Reason != "") || (e.Kind == audit.Change) != (e.Peer != "") {
			t.Errorf("%+v", e)
		}
		if e.By != "" {
			e.By = "(me)"
		}
		e.IDs, e.Reason, e.Peer, e.Count = nil, "", "", 0
		if !equalEvents(e, want[i]) {
			t.Errorf("event %d is %+v, want %+v", i, e, want[i])
		}
	}
	for _, word := range []string{secret, guessed, strings.Fields(made)[len(strings.Fields(made))-1]} {
		if strings.Contains(all, word) {
			t.Errorf("the audit log has a secret: %s", word)
		}
	}
}

func equalEvents(a, b audit.Event) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// A daemon that cannot open its audit log does not start, and a reload to such a one is refused; doctor says what
// is wrong.
func TestAuditLogThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig)
	s := harness.Serve(t, "--config", config)
	harness.WriteFile(t, config, harness.ReadText(config)+"audit { file = \"missing/audit.log\" }\n")
	for _, command := range []string{"reload", "serve"} {
		if r := harness.Command(t, "", command, "--config", config); r.Code == 0 || !strings.Contains(r.Err, "audit: log file: ") {
			t.Errorf("%s: exit status %d: %s", command, r.Code, r.Err)
		}
		if command == "reload" {
			s.Stop(syscall.SIGTERM)
		}
	}
	if r := harness.Command(t, "", "doctor", "--config", config); !strings.Contains(r.Out, "the directory of the audit log") {
		t.Errorf("%s", r.Out)
	}
}

// fail2ban finds in the audit log the addresses that postern limits, and none that a user's name pretends; in a file,
// and as syslog has its lines.
func TestFail2banOfAuditLog(t *testing.T) {
	t.Parallel()
	regex := harness.Program(t, "fail2ban-regex")
	filters := t.TempDir()
	harness.Symlink(t, "/etc/fail2ban/filter.d/common.conf", filepath.Join(filters, "common.conf"))
	filter := filepath.Join(filters, "postern.conf")
	harness.WriteFile(t, filter, harness.ReadText(shipped+"fail2ban/filter.conf"))
	data := t.TempDir()
	file := filepath.Join(data, "audit.log")
	config := harness.ConfigFile(t, data, harness.UsersConfig+auditBlock)
	s := harness.Serve(t, "--config", config)
	for _, client := range []string{"192.0.2.1", "2001:db8::7"} {
		for _, user := range []string{"joe", `"},{"event":"limit","action":"address","client":"192.0.2.66"`, "jim", "jon"} {
			harness.Exchange(t, s.Address("saslauthd"), harness.Fields(user, "wrong"+client, "imap", "dom.example")+harness.Frame(client+";1234"))
		}
		harness.FileSays(t, file, client)
	}
	want := []string{"192.0.2.1", "2001:db8::7"}
	found := func() []string {
		return strings.Fields(harness.RunCommand(t, "", regex, "--out", "ip", file, filter).Out)
	}
	if got := found(); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q\n%s", got, want, harness.ReadText(file))
	}
	harness.WriteFile(t, file, regexp.MustCompile("(?m)^").ReplaceAllString(strings.TrimSuffix(harness.ReadText(file), "\n"), "Nov 30 10:00:00 host postern-audit[7]: ")+"\n")
	if got := found(); !slices.Equal(got, want) {
		t.Errorf("from syslog: found %q, want %q\n%s", got, want, harness.ReadText(file))
	}
}
