package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// limited starts a daemon whose listener has one protocol and some limits, in front of joe,
// password secret, and of a web application.
func limited(t *testing.T, protocol, limits string, app http.HandlerFunc) (address string, s *server) {
	t.Helper()
	config, _ := pipeUsers(t, "listen \""+protocol+"\" {\n  address = \"127.0.0.1:0\"\n  "+limits+"\n}\n"+
		"listen \"plain\" {\n  protocol = \"generic\"\n  address  = \"127.0.0.1:0\"\n}\n"+
		"backend \"json\" \"app\" { url = \""+newWebApp(t, app).URL+"\" }\n"+
		"domain \"app.example\" {\n  backends = [backend.json.app]\n  cache { storage = \"memory\" }\n}\nlog { level = \"debug\" }\n")
	s = serve(t, "--config", config)
	return s.address(protocol), s
}

func netstring(text string) string { return fmt.Sprintf("%d:%s,", len(text), text) }

// A request that has begun must end within frame_timeout, however it trickles in. A connection
// that has not begun one may wait.
func TestFrameTimeout(t *testing.T) {
	for protocol, d := range dialects() {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			address, _ := limited(t, protocol, "frame_timeout = \"300ms\"", always(200, jsonYes))
			idle, half, trickle := connect(t, address), connect(t, address), connect(t, address)
			if !d.once {
				say(t, half, d.yes, d.isYes)
				say(t, trickle, d.yes, d.isYes)
			}
			say(t, half, d.half, "")
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
			closedBy(t, half)
			_ = trickle.SetReadDeadline(time.Now().Add(patience))
			if rest, err := io.ReadAll(trickle); len(rest) > 0 || os.IsTimeout(err) {
				t.Errorf("a trickling request: %q, %v", rest, err)
			}
			say(t, idle, d.yes, d.isYes)
		})
	}
}

// A connection without a request for idle_timeout is closed, but not before the answer that
// it is owed.
func TestIdleTimeout(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	address, s := limited(t, "generic", "idle_timeout = \"300ms\"", func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, jsonYes)
	})
	patient := connect(t, s.address("plain"))
	busy := connect(t, address)
	say(t, busy, "auth:joe:app.example:secret\n", "")
	<-arrived
	idle := connect(t, address)
	say(t, idle, "auth:joe:dom.example:secret\n", "1\n")
	closedBy(t, idle)
	close(release)
	say(t, busy, "", "1\n")
	closedBy(t, busy)
	say(t, patient, "auth:joe:dom.example:secret\n", "1\n")
}

// A request over max_frame is refused, without an end to those after it where the protocol
// tells how long it is.
func TestMaxFrame(t *testing.T) {
	long := strings.Repeat("x", 1100)
	for protocol, c := range map[string]struct{ input, want string }{
		"ejabberd":  {frame("auth:ann:dom.example:"+long) + frame("auth:joe:dom.example:secret"), "\x00\x02\x00\x00\x00\x02\x00\x01"},
		"generic":   {"auth:ann:dom.example:" + long + "\nauth:joe:dom.example:secret\n", "0\n1\n"},
		"saslauthd": {fields("ann", long, "imap", "dom.example"), frame("NO authentication failed")},
		"tcp_table": {"get " + strings.Repeat("%78", 400) + "@dom.example\nget joe@dom.example\n",
			"500 malformed request\n200 OK\n"},
		"socketmap": {netstring("mailbox \""+strings.Repeat("\\x", 600)+"\"@dom.example") + netstring("mailbox joe@dom.example"),
			netstring("NOTFOUND ") + netstring("OK OK")},
	} {
		t.Run(protocol, func(t *testing.T) { // without the limit the answers are others
			for limits, same := range map[string]bool{"max_frame = 1024": true, "": false} {
				config, _ := pipeUsers(t, "listen \""+protocol+"\" {\n  address = \"127.0.0.1:0\"\n  "+limits+"\n}\n")
				ok(t, long, "user", "add", "ann@dom.example", "--config", config)
				ok(t, long, "user", "add", long[:600]+"@dom.example", "--config", config)
				s := serve(t, "--config", config)
				if got := exchange(t, s.address(protocol), c.input); (got == c.want) != same {
					t.Errorf("limits %q: answered %q, with max_frame it must be %q", limits, got, c.want)
				}
			}
		})
	}
}

// Connections over max_connections are served when there is room.
func TestMaxConnections(t *testing.T) {
	address, _ := limited(t, "generic", "max_connections = 2", always(200, jsonYes))
	const login = "auth:joe:dom.example:secret\n"
	first, second, third := connect(t, address), connect(t, address), connect(t, address)
	say(t, first, login, "1\n")
	say(t, second, login, "1\n")
	say(t, third, login, "")
	_ = third.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := third.Read(make([]byte, 10)); n > 0 || !os.IsTimeout(err) {
		t.Fatalf("a third connection was served: %d bytes, %v", n, err)
	}
	say(t, first, login, "1\n") // the others still are
	_ = second.Close()
	_ = third.SetReadDeadline(time.Now().Add(patience))
	say(t, third, "", "1\n")
}

// No more than pipeline requests of one connection are under way, and none of them is lost.
func TestPipelineLimit(t *testing.T) {
	arrived, release := make(chan string, 64), make(chan struct{})
	address, s := limited(t, "generic", "pipeline = 3", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- string(body)
		<-release
		_, _ = io.WriteString(w, map[bool]string{true: jsonYes, false: jsonNo}[strings.Contains(string(body), "secret")])
	})
	c := connect(t, address)
	var want string
	for i := range 10 {
		password := [...]string{"secret", "wrong"}[i%2]
		want += [...]string{"1\n", "0\n"}[i%2]
		say(t, c, fmt.Sprintf("auth:user%d:app.example:%s\n", i, password), "")
	}
	for range 3 {
		<-arrived
	}
	// Another connection's request arrives after all that might have arrived of the first's.
	other := connect(t, s.address("plain"))
	say(t, other, "auth:other:app.example:secret\n", "")
	if body := <-arrived; !strings.Contains(body, "other") {
		t.Errorf("a fourth request of a connection was under way: %s", body)
	}
	close(release)
	say(t, c, "", want)
	say(t, other, "", "1\n")
}

// A listener's deadline bounds the wait for a backend that hangs; the shortest default is 4 s.
func TestDeadline(t *testing.T) {
	for protocol, d := range dialects() {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			hang := make(chan struct{})
			address, s := limited(t, protocol, "deadline = \"400ms\"", func(http.ResponseWriter, *http.Request) { <-hang })
			defer close(hang)
			begun := time.Now()
			say(t, connect(t, address), strings.ReplaceAll(d.yes, "dom.example", "app.example"), d.isCannot)
			if took := time.Since(begun); took < 200*time.Millisecond || took > 3500*time.Millisecond {
				t.Errorf("answered after %v", took)
			}
			s.eventually("decision", func() bool { return strings.Contains(s.log.String(), "verdict=unavailable") })
		})
	}
}

// A peer that does not take its answers is cut off after write_timeout, and no other.
func TestWriteTimeout(t *testing.T) {
	roster := `{"result":"success","data":{"sharedRoster":{"joe":{"name":"` + strings.Repeat("x", 512<<10) + `","groups":["a"]}}}}`
	app := newWebApp(t, always(200, roster))
	s := serve(t, "--config", configFile(t, t.TempDir(), `
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
	deaf, good := connect(t, s.address("generic")), connect(t, s.address("generic"))
	say(t, deaf, strings.Repeat("roster:joe:dom.example\n", 60), "")
	s.eventually("cut off", func() bool { return strings.Contains(s.log.String(), "answers could not be delivered") })
	_ = deaf.SetReadDeadline(time.Now().Add(patience))
	n, err := io.Copy(io.Discard, deaf)
	if n >= 60*int64(len(roster)) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes and then %v", n, err)
	}
	say(t, good, "quit\n", "")
	closedBy(t, good)
}
