package daemon

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// limited starts a daemon with a listener that has one protocol and some limits. Behind it are joe,
// password secret, and a web application.
func limited(t *testing.T, protocol, limits string, app http.HandlerFunc) (address string, s *harness.Server) {
	t.Helper()
	config, _ := harness.PipeUsers(t, "listen \""+protocol+"\" {\n  address = \"127.0.0.1:0\"\n  "+limits+"\n}\n"+
		"listen \"plain\" {\n  protocol = \"generic\"\n  address  = \"127.0.0.1:0\"\n}\n"+
		"backend \"json\" \"app\" { url = \""+harness.NewWebApp(t, app).URL+"\" }\n"+
		"domain \"app.example\" {\n  backends = [backend.json.app]\n  cache { storage = \"memory\" }\n}\nlog { level = \"debug\" }\n")
	s = harness.Serve(t, "--config", config)
	return s.Address(protocol), s
}

// A request that has begun must end within frame_timeout, however it trickles in. A connection
// that has not begun one may wait.
func TestFrameTimeout(t *testing.T) {
	for protocol, d := range harness.Dialects() {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			address, _ := limited(t, protocol, "frame_timeout = \"300ms\"", harness.Always(200, harness.JSONYes))
			idle, half, trickle := harness.Connect(t, address), harness.Connect(t, address), harness.Connect(t, address)
			if !d.Once {
				harness.Say(t, half, d.Yes, d.IsYes)
				harness.Say(t, trickle, d.Yes, d.IsYes)
			}
			harness.Say(t, half, d.Half, "")
			go func() { // to every protocol the beginning of a frame of 257 bytes and more
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for _, b := range []byte(strings.Repeat("\x01", 1000)) {
					if _, err := trickle.Write([]byte{b}); err != nil {
						return
					}
					<-tick.C
				}
			}()
			harness.ClosedBy(t, half)
			_ = trickle.SetReadDeadline(time.Now().Add(harness.Timeout))
			if rest, err := io.ReadAll(trickle); len(rest) > 0 || os.IsTimeout(err) {
				t.Errorf("a trickling request: %q, %v", rest, err)
			}
			harness.Say(t, idle, d.Yes, d.IsYes)
		})
	}
}

// A connection without a request for idle_timeout is closed, but not before the answer to its last
// request.
func TestIdleTimeout(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	address, s := limited(t, "generic", "idle_timeout = \"2s\"", func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, harness.JSONYes)
	})
	patient := harness.Connect(t, s.Address("plain"))
	busy := harness.Connect(t, address)
	harness.Say(t, busy, "auth:joe:app.example:secret\n", "")
	<-arrived
	idle := harness.Connect(t, address)
	harness.Say(t, idle, "auth:joe:dom.example:secret\n", "1\n")
	harness.ClosedBy(t, idle)
	close(release)
	harness.Say(t, busy, "", "1\n")
	harness.ClosedBy(t, busy)
	harness.Say(t, patient, "auth:joe:dom.example:secret\n", "1\n")
}

// A request over max_frame is refused. Where the protocol has a length, the connection remains
// usable for those after it.
func TestMaxFrame(t *testing.T) {
	long := strings.Repeat("x", 1100)
	for protocol, c := range map[string]struct{ input, want string }{
		"ejabberd":  {harness.Frame("auth:ann:dom.example:"+long) + harness.Frame("auth:joe:dom.example:secret"), "\x00\x02\x00\x00\x00\x02\x00\x01"},
		"generic":   {"auth:ann:dom.example:" + long + "\nauth:joe:dom.example:secret\n", "0\n1\n"},
		"saslauthd": {harness.Fields("ann", long, "imap", "dom.example"), harness.Frame("NO authentication failed")},
		"tcp_table": {"get " + strings.Repeat("%78", 400) + "@dom.example\nget joe@dom.example\n",
			"500 malformed request\n200 OK\n"},
		"socketmap": {harness.Netstring("mailbox \""+strings.Repeat("\\x", 600)+"\"@dom.example") + harness.Netstring("mailbox joe@dom.example"),
			harness.Netstring("NOTFOUND ") + harness.Netstring("OK OK")},
	} {
		t.Run(protocol, func(t *testing.T) { // without the limit the answers are others
			for limits, same := range map[string]bool{"max_frame = 1024": true, "": false} {
				config, _ := harness.PipeUsers(t, "listen \""+protocol+"\" {\n  address = \"127.0.0.1:0\"\n  "+limits+"\n}\n")
				harness.OK(t, long, "user", "add", "ann@dom.example", "--config", config)
				harness.OK(t, long, "user", "add", long[:600]+"@dom.example", "--config", config)
				s := harness.Serve(t, "--config", config)
				if got := harness.Exchange(t, s.Address(protocol), c.input); (got == c.want) != same {
					t.Errorf("limits %q: answered %q, with max_frame it must be %q", limits, got, c.want)
				}
			}
		})
	}
}

// Connections over max_connections are served when there is room.
func TestMaxConnections(t *testing.T) {
	address, _ := limited(t, "generic", "max_connections = 2", harness.Always(200, harness.JSONYes))
	const login = "auth:joe:dom.example:secret\n"
	first, second, third := harness.Connect(t, address), harness.Connect(t, address), harness.Connect(t, address)
	harness.Say(t, first, login, "1\n")
	harness.Say(t, second, login, "1\n")
	harness.Say(t, third, login, "")
	_ = third.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := third.Read(make([]byte, 10)); n > 0 || !os.IsTimeout(err) {
		t.Fatalf("a third connection was served: %d bytes, %v", n, err)
	}
	harness.Say(t, first, login, "1\n") // the others still are
	_ = second.Close()
	_ = third.SetReadDeadline(time.Now().Add(harness.Timeout))
	harness.Say(t, third, "", "1\n")
}

// No more than pipeline requests of one connection are under way, and none of them is lost.
func TestPipelineLimit(t *testing.T) {
	arrived, release := make(chan string, 64), make(chan struct{})
	address, s := limited(t, "generic", "pipeline = 3", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- string(body)
		<-release
		_, _ = io.WriteString(w, map[bool]string{true: harness.JSONYes, false: harness.JSONNo}[strings.Contains(string(body), "secret")])
	})
	c := harness.Connect(t, address)
	var want string
	for i := range 10 {
		password := [...]string{"secret", "wrong"}[i%2]
		want += [...]string{"1\n", "0\n"}[i%2]
		harness.Say(t, c, fmt.Sprintf("auth:user%d:app.example:%s\n", i, password), "")
	}
	for range 3 {
		<-arrived
	}
	// Another connection's request arrives after all that might have arrived of the first's.
	other := harness.Connect(t, s.Address("plain"))
	harness.Say(t, other, "auth:other:app.example:secret\n", "")
	if body := <-arrived; !strings.Contains(body, "other") {
		t.Errorf("a fourth request of a connection was under way: %s", body)
	}
	close(release)
	harness.Say(t, c, "", want)
	harness.Say(t, other, "", "1\n")
}

// A listener's deadline bounds the wait for a backend that hangs; the shortest default is 4 s.
func TestDeadline(t *testing.T) {
	for protocol, d := range harness.Dialects() {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			hang := make(chan struct{})
			address, s := limited(t, protocol, "deadline = \"400ms\"", func(http.ResponseWriter, *http.Request) { <-hang })
			defer close(hang)
			begun := time.Now()
			harness.Say(t, harness.Connect(t, address), strings.ReplaceAll(d.Yes, "dom.example", "app.example"), d.IsCannot)
			if took := time.Since(begun); took < 200*time.Millisecond || took > 3500*time.Millisecond {
				t.Errorf("answered after %v", took)
			}
			s.Eventually("decision", func() bool { return strings.Contains(s.Log.String(), "verdict=unavailable") })
		})
	}
}

// A peer that does not take its answers is cut off after write_timeout, and no other.
func TestWriteTimeout(t *testing.T) {
	roster := `{"result":"success","data":{"sharedRoster":{"joe":{"name":"` + strings.Repeat("x", 512<<10) + `","groups":["a"]}}}}`
	app := harness.NewWebApp(t, harness.Always(200, roster))
	s := harness.Serve(t, "--config", harness.ConfigFile(t, t.TempDir(), `
listen "generic" {
  address       = "127.0.0.1:0"
  write_timeout = "300ms"
}
backend "jsxc" "cloud" {
  url    = "`+app.URL+`"
  secret = "api-secret"
}
domain "dom.example" { backends = [backend.jsxc.cloud] }
log { level = "debug" }
`))
	deaf, good := harness.Connect(t, s.Address("generic")), harness.Connect(t, s.Address("generic"))
	harness.Say(t, deaf, strings.Repeat("roster:joe:dom.example\n", 60), "")
	s.Eventually("cut off", func() bool { return strings.Contains(s.Log.String(), "answers could not be delivered") })
	_ = deaf.SetReadDeadline(time.Now().Add(harness.Timeout))
	n, err := io.Copy(io.Discard, deaf)
	if n >= 60*int64(len(roster)) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes and then %v", n, err)
	}
	harness.Say(t, good, "quit\n", "")
	harness.ClosedBy(t, good)
}
