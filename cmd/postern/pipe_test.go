package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// pipeConfig has no listener: a pipe needs none.
const pipeConfig = `
backend "users" "local" { bcrypt_cost = 4 }
domain "dom.example" {
  backends = [backend.users.local]
  cache { storage = "memory" }
}
`

// pipeUsers writes pipeConfig with more of it, and the account joe, password secret.
func pipeUsers(t *testing.T, more string) (config, data string) {
	t.Helper()
	data = t.TempDir()
	config = configFile(t, data, pipeConfig+more)
	ok(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	return config, data
}

// dialect is how one protocol asks and is answered.
type dialect struct {
	yes, no     string // questions about joe
	nonsense    string
	isYes, isNo string
	isNonsense  string
	isCannot    string // what yes and no are answered while nobody can tell
	half        string // the beginning of a request; of one that changes something, if there is one
	whole       string // that request
	once        bool   // one question per pipe
}

func dialects() map[string]dialect {
	return map[string]dialect{
		"ejabberd": {
			yes: frame("auth:joe:dom.example:secret"), no: frame("auth:joe:dom.example:wrong"), nonsense: frame("nonsense"),
			isYes: "\x00\x02\x00\x01", isNo: "\x00\x02\x00\x00", isNonsense: "\x00\x02\x00\x00", isCannot: "\x00\x02\x00\x02",
			half: frame("setpass:joe:dom.example:new!")[:29], whole: frame("setpass:joe:dom.example:new"),
		},
		"generic": {
			yes: "auth:joe:dom.example:secret\n", no: "auth:joe:dom.example:wrong\n", nonsense: "nonsense\n",
			isYes: "1\n", isNo: "0\n", isNonsense: "0\n", isCannot: "0\n",
			half: "setpass:joe:dom.example:new", whole: "setpass:joe:dom.example:new\n",
		},
		"saslauthd": {
			yes: fields("joe", "secret", "imap", "dom.example"), no: fields("joe", "wrong", "imap", "dom.example"),
			isYes: frame("OK success"), isNo: frame("NO authentication failed"), isCannot: "\x00\x00",
			half: fields("joe", "secret", "imap") + "\x00", once: true,
		},
		"tcp_table": {
			yes: "get joe@dom.example\n", no: "get ann@dom.example\n", nonsense: "nonsense\n",
			isYes: "200 OK\n", isNo: "500 no such user\n", isNonsense: "500 malformed request\n",
			isCannot: "400 temporarily unavailable\n", half: "get joe@dom.example",
		},
		"socketmap": {
			yes: netstring("mailbox joe@dom.example"), no: netstring("mailbox ann@dom.example"), nonsense: netstring("nonsense joe"),
			isYes: netstring("OK OK"), isNo: netstring("NOTFOUND "), isNonsense: netstring("PERM not supported"),
			isCannot: netstring("TEMP try again later"), half: "23:mailbox joe@dom.exam",
		},
	}
}

// A hundred requests are written at once and the input ends: every one of them is answered,
// in order, before the process ends with status 0, and nothing else is on standard output,
// however much there is to log.
func TestPipeLosesNothing(t *testing.T) {
	for protocol, d := range dialects() {
		t.Run(protocol, func(t *testing.T) {
			config, data := pipeUsers(t, "log { level = \"debug\" }\n")
			input, want, n := d.yes, d.isYes, 1
			for ; n < 100 && !d.once; n++ {
				q := [...][2]string{{d.yes, d.isYes}, {d.no, d.isNo}, {d.nonsense, d.isNonsense}}[n%3]
				input, want = input+q[0], want+q[1]
			}
			p := start(t, "pipe", "--protocol", protocol, "--config", config)
			p.send(input)
			if rest, code := p.finish(); rest != want || code != 0 {
				t.Errorf("exit status %d, answered %q; want %q", code, rest, want)
			}
			p.logged("level=INFO") // standard error is free
			if _, err := os.Stat(filepath.Join(data, "pipe.log")); err == nil {
				t.Error("standard error is free, but there is a pipe.log")
			}
		})
	}
}

// A pipe takes the extension off an address as the listener of its protocol does.
func TestPipeKnowsExtensions(t *testing.T) {
	config, _ := pipeUsers(t, "listen \"tcp_table\" {\n  address = \"127.0.0.1:0\"\n  recipient_delimiter = \"+\"\n}\n")
	r := command(t, "get joe+news@dom.example\nget ann+news@dom.example\n", "pipe", "--protocol", "tcp_table", "--config", config)
	if want := "200 OK\n500 no such user\n"; r.out != want || r.code != 0 {
		t.Errorf("answered %q, exit status %d; want %q", r.out, r.code, want)
	}
}

// A request that the end of the input cuts off is not answered and changes nothing.
func TestPipeIgnoresHalfARequest(t *testing.T) {
	for protocol, d := range dialects() {
		t.Run(protocol, func(t *testing.T) {
			config, _ := pipeUsers(t, "")
			ask := func(input string) string {
				p := start(t, "pipe", "--protocol", protocol, "--config", config)
				p.send(input)
				rest, code := p.finish()
				if code != 0 {
					t.Errorf("exit status %d", code)
				}
				return rest
			}
			before, answered := d.yes, d.isYes
			if d.once {
				before, answered = "", ""
			}
			if got := ask(before + d.half); got != answered {
				t.Errorf("with half a request at the end: answered %q, want %q", got, answered)
			}
			if got := ask(d.yes); got != d.isYes {
				t.Errorf("half a request was acted on: then answered %q", got)
			}
			if d.whole == "" {
				return
			}
			// The same request in full does what half of it must not.
			if got := ask(d.whole) + ask(d.yes); got != d.isYes+d.isNo {
				t.Errorf("a whole change: answered %q", got)
			}
		})
	}
}

// Answers come while the peer waits for them with its end open.
func TestPipeAnswersAtOnce(t *testing.T) {
	config, _ := pipeUsers(t, "")
	for protocol, d := range dialects() {
		t.Run(protocol, func(t *testing.T) {
			p := start(t, "pipe", "--protocol", protocol, "--config", config)
			p.send(d.yes)
			p.expect(d.isYes)
			if d.once { // the protocol's one question ends the process, too
				if code := p.exit(); code != 0 {
					t.Errorf("exit status %d", code)
				}
				return
			}
			p.send(d.no + d.nonsense)
			p.expect(d.isNo + d.isNonsense)
			p.send(d.yes[:3])
			p.send(d.yes[3:])
			p.expect(d.isYes)
			if rest, code := p.finish(); rest != "" || code != 0 {
				t.Errorf("at the end: %q, exit status %d", rest, code)
			}
		})
	}
}

// The first listener of the protocol lends the pipe its limits.
func TestPipeTakesTheLimitsOfTheFirstListener(t *testing.T) {
	const listeners = `
listen "mongoose" {
  protocol       = "ejabberd"
  address        = "127.0.0.1:0"
  binary_answers = true
  max_frame      = 1024
}
listen "ejabberd" { address = "127.0.0.1:0" }
listen "saslauthd" {
  address        = "127.0.0.1:0"
  default_domain = "dom.example"
}
backend "json" "app" { url = "`
	dead := listeners + deadURL(t) + "\" }\ndomain \"away.example\" { backends = [backend.json.app] }\n"
	config, _ := pipeUsers(t, dead)
	long := strings.Repeat("x", 1200)
	ok(t, long, "user", "add", "ann@dom.example", "--config", config)
	for _, c := range []struct{ name, protocol, input, want string }{
		{"binary_answers", "ejabberd", frame("auth:joe:away.example:secret"), "\x00\x02\x00\x00"},
		{"max_frame", "ejabberd", frame("auth:ann:dom.example:"+long) + frame("auth:joe:dom.example:secret"),
			"\x00\x02\x00\x00\x00\x02\x00\x01"},
		{"default_domain", "saslauthd", fields("joe", "secret", "imap", ""), frame("OK success")},
	} {
		r := command(t, c.input, "pipe", "--protocol", c.protocol, "--config", config)
		if r.out != c.want || r.code != 0 {
			t.Errorf("%s, %s: answered %q, exit status %d; want %q", c.protocol, c.name, r.out, r.code, c.want)
		}
	}
}

// SIGTERM ends a pipe after the answers that are owed, although the input stays open.
func TestPipeTermAnswersWhatWaits(t *testing.T) {
	arrived, release := make(chan struct{}, 8), make(chan struct{})
	app := newWebApp(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, jsonYes)
	})
	config := configFile(t, t.TempDir(), "backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		"domain \"dom.example\" {\n  backends = [backend.json.app]\n  cache { storage = \"memory\" }\n}\n")
	p := start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.send(frame("auth:joe:dom.example:one") + frame("auth:ann:dom.example:two"))
	<-arrived
	<-arrived
	p.signal(syscall.SIGTERM)
	p.logged("msg=stopping")
	close(release)
	p.expect("\x00\x02\x00\x01\x00\x02\x00\x01")
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if n := app.asked.Load(); n != 2 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// A peer that closes standard output is gone: its answers go nowhere, and the process ends
// with status 0 when the input ends, not by a signal before.
func TestPipeOutlivesItsReader(t *testing.T) {
	config, _ := pipeUsers(t, "")
	p := start(t, "pipe", "--protocol", "generic", "--config", config)
	p.send("auth:joe:dom.example:secret\n")
	p.expect("1\n")
	_ = p.out.Close()
	for range 10 { // more than one write meets the closed pipe
		p.send(strings.Repeat("isuser:joe:dom.example\n", 200))
	}
	_ = p.in.Close()
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// The broker that pipes start reopens its log at SIGHUP, as the daemon does.
func TestPipeReopensItsLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pipe.log")
	config, data := pipeUsers(t, "log { file = \""+file+"\" }\n")
	p := start(t, "pipe", "--protocol", "generic", "--config", config)
	p.send("auth:joe:dom.example:secret\n")
	p.expect("1\n")
	waitFor(t, "log file", func() bool { return readText(file) != "" })
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(ownerOf(t, data), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	fileSays(t, file, "log file reopened")
	p.send("auth:joe:dom.example:wrong\n")
	p.expect("0\n")
	if rest, code := p.finish(); rest != "" || code != 0 {
		t.Errorf("at the end: %q, exit status %d", rest, code)
	}
	if strings.Contains(readText(file+".1"), "log file reopened") {
		t.Error("the old file was written to after the rotation")
	}
}
