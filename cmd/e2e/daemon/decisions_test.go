package daemon

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// decision is the line of one in a JSON log.
type decision struct {
	Time    time.Time
	Level   string
	Msg     string
	Front   string
	Op      string
	Domain  string
	User    string
	Verdict string
	Source  string
	Took    string // with its unit
	Peer    string
	Given   string
	Reason  string
}

func (d decision) String() string {
	return strings.Join([]string{d.Level, d.Front, d.Op, d.Domain, d.User, d.Verdict, d.Source}, " ")
}

// decisions reads the lines of a JSON log. Every line must be an object with the time, the
// level and the message.
func decisions(t *testing.T, log string) (found []decision) {
	t.Helper()
	for line := range strings.Lines(log) {
		var d decision
		dec := json.NewDecoder(bytes.NewReader([]byte(line)))
		if err := dec.Decode(&d); err != nil || d.Time.IsZero() || d.Level == "" || d.Msg == "" {
			t.Errorf("not a line of the log: %q, %v", line, err)
		}
		if d.Msg == "decision" {
			found = append(found, d)
		}
	}
	return found
}

// Every decision has one line, with the front, the operation, the user, the answer, its source and
// how long it took; in the file that the configuration names, and nowhere else.
func TestOneLinePerDecision(t *testing.T) {
	data := t.TempDir()
	config := harness.ConfigFile(t, data, harness.UsersConfig+`
backend "json" "away" { url = "`+harness.DeadURL(t)+`" }
domain "away.example" { backends = [backend.json.away] }
log {
  format = "json"
  file   = "logs.json"
}
`)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	p := harness.Start(t, "serve", "--config", config)
	file := filepath.Join(data, "logs.json")
	harness.FileSays(t, file, `"msg":"ready"`)
	var want []string
	for _, c := range []struct{ listener, input, line string }{
		{"generic", "auth:joe:dom.example:secret\n", "INFO generic auth dom.example joe allow backend"},
		{"generic", "auth:joe:DOM.example.:secret\n", "INFO generic auth dom.example joe allow hot"},
		{"ejabberd", harness.Frame("auth:joe:dom.example:wrong"), "INFO ejabberd auth dom.example joe deny backend"},
		{"ejabberd", harness.Frame("auth:joe:dom.example:wrong"), "INFO ejabberd auth dom.example joe deny refused-before"},
		{"saslauthd", harness.Fields("joe", "secret", "imap", ""), "INFO saslauthd auth dom.example joe allow hot"},
		{"tcp_table", "get ann@dom.example\n", "INFO tcp_table isuser dom.example ann deny backend"},
		{"generic", "isuser:joe:other.example\n", "INFO generic isuser other.example joe deny unknown-domain"},
		{"generic", "auth:joe:away.example:secret\n", "INFO generic auth away.example joe unavailable backend"},
		{"generic", "roster:joe:dom.example\n", "INFO generic roster dom.example joe unsupported unsupported"},
		{"generic", "setpass:joe:dom.example:secret\n", "INFO generic setpass dom.example joe allow backend"},
		{"generic", "auth:joe\n", "INFO generic auth   deny malformed"}, // names that may not be looked at are not shown
		{"ejabberd", harness.Frame("auth:jo\ne:dom.example:secret"), "INFO ejabberd auth   deny malformed"},
		{"generic", "auth:jo e\" verdict=allow:dom.example:secret\n", `INFO generic auth dom.example jo e" verdict=allow deny backend`},
	} {
		harness.Exchange(t, listenerAddress(t, file, c.listener), c.input)
		want = append(want, c.line)
	}
	p.Signal(syscall.SIGTERM)
	if rest, code := p.Finish(); rest != "" || p.Log.String() != "" || code != 0 {
		t.Errorf("exit status %d; with a log file, standard output has %q and standard error %q", code, rest, p.Log.String())
	}
	got := decisions(t, harness.ReadText(file))
	for i, d := range got {
		if took, err := time.ParseDuration(d.Took); err != nil || took <= 0 || took > harness.Timeout {
			t.Errorf("%v took %q", d, d.Took)
		}
		if refused := d.Verdict != "allow"; refused != (d.Reason != "") || refused != (d.Peer != "") {
			t.Errorf("%v of the peer %q, because %q", d, d.Peer, d.Reason)
		}
		if i < len(want) && d.String() != want[i] {
			t.Errorf("line %d is %q, want %q", i, d, want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lines for %d decisions", len(got), len(want))
	}
}

// listenerAddress finds an address in a JSON log.
func listenerAddress(t *testing.T, file, listener string) string {
	t.Helper()
	for line := range strings.Lines(harness.ReadText(file)) {
		var l struct{ Msg, Listener, Address string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "listening" && l.Listener == listener {
			return l.Address
		}
	}
	t.Fatalf("no listener %s in the log", listener)
	return ""
}

// The level of the log leaves out what is less important, but not what an administrator must
// see: an answer that was given because there was no room.
func TestLogLevelOfDecisions(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	app := harness.NewWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, harness.JSONYes)
	})
	data := t.TempDir()
	p := harness.Start(t, "serve", "--config", harness.ConfigFile(t, data, `
listen "generic" { address = "unix:generic" }
backend "json" "app" {
  url   = "`+app.URL+`"
  slots = 1
  queue = 0
}
domain "dom.example" {
  backends = [backend.json.app]
  cache { storage = "memory" }
}
log { level = "warn" }
`))
	socket := filepath.Join(data, "generic")
	harness.WaitFor(t, "socket", func() bool { _, err := os.Stat(socket); return err == nil })
	slow := harness.Connect(t, socket)
	harness.Say(t, slow, "auth:joe:dom.example:secret\n", "")
	<-arrived
	harness.Say(t, harness.Connect(t, socket), "auth:ann:dom.example:secret\n", "0\n")
	close(release)
	harness.Say(t, slow, "", "1\n")
	p.Logged("source=overload")
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if log := p.Log.String(); strings.Contains(log, "level=INFO") || strings.Count(log, "msg=decision") != 1 || !strings.Contains(log, "user=ann") {
		t.Errorf("the log says\n%s", log)
	}
}
