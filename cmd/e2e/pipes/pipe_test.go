package pipes

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// A hundred requests are written at once and the input ends: every one of them is answered,
// in order, before the process ends with status 0, and nothing else is on standard output,
// however much there is to log.
func TestPipeLosesNothing(t *testing.T) {
	for protocol, d := range harness.Dialects() {
		t.Run(protocol, func(t *testing.T) {
			config, data := harness.PipeUsers(t, "log { level = \"debug\" }\n")
			input, want, n := d.Yes, d.IsYes, 1
			for ; n < 100 && !d.Once; n++ {
				q := [...][2]string{{d.Yes, d.IsYes}, {d.No, d.IsNo}, {d.Nonsense, d.IsNonsense}}[n%3]
				input, want = input+q[0], want+q[1]
			}
			p := harness.Start(t, "pipe", "--protocol", protocol, "--config", config)
			p.Send(input)
			if rest, code := p.Finish(); rest != want || code != 0 {
				t.Errorf("exit status %d, answered %q; want %q", code, rest, want)
			}
			p.Logged("level=INFO") // standard error is free
			if _, err := os.Stat(filepath.Join(data, "pipe.log")); err == nil {
				t.Error("standard error is free, but there is a pipe.log")
			}
		})
	}
}

// A pipe takes the extension off an address as the listener of its protocol does.
func TestPipeKnowsExtensions(t *testing.T) {
	config, _ := harness.PipeUsers(t, "listen \"tcp_table\" {\n  address = \"127.0.0.1:0\"\n  recipient_delimiter = \"+\"\n}\n")
	r := harness.Command(t, "get joe+news@dom.example\nget ann+news@dom.example\n", "pipe", "--protocol", "tcp_table", "--config", config)
	if want := "200 OK\n500 no such user\n"; r.Out != want || r.Code != 0 {
		t.Errorf("answered %q, exit status %d; want %q", r.Out, r.Code, want)
	}
}

// A request that the end of the input cuts off is not answered and changes nothing.
func TestPipeIgnoresHalfARequest(t *testing.T) {
	for protocol, d := range harness.Dialects() {
		t.Run(protocol, func(t *testing.T) {
			config, _ := harness.PipeUsers(t, "")
			ask := func(input string) string {
				p := harness.Start(t, "pipe", "--protocol", protocol, "--config", config)
				p.Send(input)
				rest, code := p.Finish()
				if code != 0 {
					t.Errorf("exit status %d", code)
				}
				return rest
			}
			before, answered := d.Yes, d.IsYes
			if d.Once {
				before, answered = "", ""
			}
			if got := ask(before + d.Half); got != answered {
				t.Errorf("with half a request at the end: answered %q, want %q", got, answered)
			}
			if got := ask(d.Yes); got != d.IsYes {
				t.Errorf("half a request was acted on: then answered %q", got)
			}
			if d.Whole == "" {
				return
			}
			// The same request in full does what half of it must not.
			if got := ask(d.Whole) + ask(d.Yes); got != d.IsYes+d.IsNo {
				t.Errorf("a whole change: answered %q", got)
			}
		})
	}
}

// Answers come while the peer waits for them with its end open.
func TestPipeAnswersAtOnce(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	for protocol, d := range harness.Dialects() {
		t.Run(protocol, func(t *testing.T) {
			p := harness.Start(t, "pipe", "--protocol", protocol, "--config", config)
			p.Send(d.Yes)
			p.Expect(d.IsYes)
			if d.Once { // but one after the other works
				p.Send(d.No)
				p.Expect(d.IsNo)
			} else {
				p.Send(d.No + d.Nonsense)
				p.Expect(d.IsNo + d.IsNonsense)
			}
			p.Send(d.Yes[:3])
			p.Send(d.Yes[3:])
			p.Expect(d.IsYes)
			if rest, code := p.Finish(); rest != "" || code != 0 {
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
	dead := listeners + harness.DeadURL(t) + "\" }\ndomain \"away.example\" { backends = [backend.json.app] }\n"
	config, _ := harness.PipeUsers(t, dead)
	long := strings.Repeat("x", 1200)
	harness.OK(t, long, "user", "add", "ann@dom.example", "--config", config)
	for _, c := range []struct{ name, protocol, input, want string }{
		{"binary_answers", "ejabberd", harness.Frame("auth:joe:away.example:secret"), "\x00\x02\x00\x00"},
		{"max_frame", "ejabberd", harness.Frame("auth:ann:dom.example:"+long) + harness.Frame("auth:joe:dom.example:secret"),
			"\x00\x02\x00\x00\x00\x02\x00\x01"},
		{"default_domain", "saslauthd", harness.Fields("joe", "secret", "imap", ""), harness.Frame("OK success")},
	} {
		r := harness.Command(t, c.input, "pipe", "--protocol", c.protocol, "--config", config)
		if r.Out != c.want || r.Code != 0 {
			t.Errorf("%s, %s: answered %q, exit status %d; want %q", c.protocol, c.name, r.Out, r.Code, c.want)
		}
	}
}

// SIGTERM ends a pipe after it has answered its requests, although the input stays open.
func TestPipeTermAnswersWhatWaits(t *testing.T) {
	arrived, release := make(chan struct{}, 8), make(chan struct{})
	app := harness.NewWebApp(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, harness.JSONYes)
	})
	config := harness.ConfigFile(t, t.TempDir(), "backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		"domain \"dom.example\" {\n  backends = [backend.json.app]\n  cache { storage = \"memory\" }\n}\n")
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.Send(harness.Frame("auth:joe:dom.example:one") + harness.Frame("auth:ann:dom.example:two"))
	<-arrived
	<-arrived
	p.Signal(syscall.SIGTERM)
	p.Logged("msg=stopping")
	close(release)
	p.Expect("\x00\x02\x00\x01\x00\x02\x00\x01")
	if code := p.Exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if n := app.Asked.Load(); n != 2 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// A peer that closes standard output is gone: its answers go nowhere, and the process ends
// with status 0 when the input ends, not by a signal before.
func TestPipeOutlivesItsReader(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	p := harness.Start(t, "pipe", "--protocol", "generic", "--config", config)
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
	_ = p.Out.Close()
	for range 10 { // more than one write meets the closed pipe
		p.Send(strings.Repeat("isuser:joe:dom.example\n", 200))
	}
	_ = p.In.Close()
	if code := p.Exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// The broker that pipes start reopens its log at SIGHUP, as the daemon does.
func TestPipeReopensItsLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pipe.log")
	config, data := harness.PipeUsers(t, "log { file = \""+file+"\" }\n")
	p := harness.Start(t, "pipe", "--protocol", "generic", "--config", config)
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
	harness.WaitFor(t, "log file", func() bool { return harness.ReadText(file) != "" })
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(harness.OwnerOf(t, data), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	harness.FileSays(t, file, "log file reopened")
	p.Send("auth:joe:dom.example:wrong\n")
	p.Expect("0\n")
	if rest, code := p.Finish(); rest != "" || code != 0 {
		t.Errorf("at the end: %q, exit status %d", rest, code)
	}
	if strings.Contains(harness.ReadText(file+".1"), "log file reopened") {
		t.Error("the old file was written to after the rotation")
	}
}
