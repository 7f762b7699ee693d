package audit

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// timeout bounds every wait of these tests.
const timeout = 3 * time.Minute

// slow is a Target that takes a line when it is let.
type slow struct {
	let   chan struct{}
	mu    sync.Mutex
	lines []string
}

func (s *slow) Write(line []byte) (int, error) {
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(line))
	return len(line), nil
}

func (*slow) Flush()        {}
func (*slow) Reopen() error { return nil }
func (*slow) Close()        {}

// A log on a disk that hangs takes no time from callers, keeps a bounded number of events, and
// says how many are missing.
func TestFullQueue(t *testing.T) {
	to := &slow{let: make(chan struct{})}
	l := New(to)
	const more = 100
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range queueSize + 1 + more { // one is being written
			l.Note(Event{Kind: Limit})
		}
	}()
	select {
	case <-ended:
	case <-time.After(timeout):
		t.Fatal("Note waits for the target")
	}
	close(to.let)
	l.Close()
	var missing, written uint64
	for _, line := range to.lines {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Kind == lost {
			missing += e.Count
		} else {
			written++
		}
	}
	if missing < more || missing+written != queueSize+1+more {
		t.Errorf("%d written, %d said to be lost", written, missing)
	}
}

// A log ends though its disk hangs.
func TestCloseOfStuckLog(t *testing.T) {
	to := &slow{let: make(chan struct{})}
	l := New(to)
	for range queueSize + 10 {
		l.Note(Event{Kind: Limit})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Close()
	}()
	select {
	case <-ended:
	case <-time.After(timeout):
		t.Fatal("Close waits for the target")
	}
	close(to.let)
	<-l.done
}

// A nil log, and one without a target, take events.
func TestNoLog(t *testing.T) {
	var none *Log
	none.Note(Event{Kind: Limit})
	none.Close()
	l := New(nil)
	l.Note(Event{Kind: Limit})
	if none.On() || l.On() || l.Reopen() != nil {
		t.Error("there is a log")
	}
	l.Close()
	l.Close()
	if to, err := Open(Config{}); to != nil || err != nil {
		t.Errorf("%v, %v", to, err)
	}
}

// The bytes of a line, whatever a client has sent.
func TestLines(t *testing.T) {
	at := time.Date(2026, 12, 1, 10, 20, 30, 45_678_000, time.FixedZone("", 3600))
	for _, c := range []struct {
		event Event
		want  string
	}{
		{Event{Kind: Limit, Action: "address", Domain: "dom.example", Client: "192.0.2.1", Network: "192.0.2.1/32", Refusals: 30, Window: "10m0s"},
			`"event":"limit","action":"address","client":"192.0.2.1","network":"192.0.2.1/32","domain":"dom.example","refusals":30,"window":"10m0s"`},
		{Event{Kind: Change, Action: "setpass", User: "a\"},{\"client\":\"\n\u2028<x>\x00\xff", Outcome: Done},
			`"event":"change","action":"setpass","outcome":"done","user":"a\"},{\"client\":\"\n\u2028<x>\u0000\ufffd"`},
		{Event{Kind: Reload, Changes: []string{"a", "b"}}, `"event":"reload","changes":["a","b"]`},
		{Event{Kind: Revoke, IDs: []string{"x"}, Count: 2}, `"event":"revoke","ids":["x"],"count":2`},
	} {
		c.event.Time = at
		got := string(appendLine(nil, &c.event))
		if want := `{"time":"2026-12-01T10:20:30.045+01:00",` + c.want + "}\n"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// A line has a bound, and stays JSON.
func FuzzLine(f *testing.F) {
	f.Add("joe", "dom.example", "\xff\xfe")
	f.Add(strings.Repeat("ä", maxText), "\u2028", strings.Repeat("\x01", 3*maxText))
	f.Fuzz(func(t *testing.T, user, reason, change string) {
		e := Event{Time: time.Unix(1, 0).UTC(), Kind: Change, User: user, Reason: reason, Peer: user + reason}
		for range maxList + 2 {
			e.Changes = append(e.Changes, change)
		}
		line := string(appendLine(nil, &e))
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || len(line) > (maxList+8)*6*(maxText+8) {
			t.Fatalf("%d bytes: %q", len(line), line)
		}
		var back Event
		if err := json.Unmarshal([]byte(line), &back); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if len(user) <= maxText && back.User != strings.ToValidUTF8(user, "\ufffd") && !strings.Contains(user, "\ufffd") && !invalid(user) {
			t.Fatalf("user %q became %q", user, back.User)
		}
		if len(back.Changes) != maxList+1 || len(back.User) > 3*maxText+3 {
			t.Fatalf("%d changes, %d bytes of a user", len(back.Changes), len(back.User))
		}
	})
}

func invalid(s string) bool { return strings.ToValidUTF8(s, "") != s }

// A file is followed when it is moved away, another is taken into use, and nothing is lost in between.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.log"), filepath.Join(dir, "two.log")
	open := func(path string) Target {
		to, err := Open(Config{File: path})
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	l := New(open(one))
	note := func(file, user string) {
		l.Note(Event{Kind: Change, User: user})
		for end := time.Now().Add(timeout); !strings.Contains(text(file), user); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s is not in %s", user, file)
			}
		}
	}
	note(one, "first")
	if err := os.Rename(one, one+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	note(one, "second")
	l.SetTarget(open(two))
	note(two, "third")
	l.Close()
	for file, lines := range map[string]int{one + ".1": 1, one: 1, two: 1} {
		if n := strings.Count(text(file), "\n"); n != lines {
			t.Errorf("%s has %d lines", file, n)
		}
	}
	if _, err := Open(Config{File: filepath.Join(dir, "none", "x.log")}); err == nil || !strings.Contains(err.Error(), "correct its path") {
		t.Errorf("a file that cannot be made: %v", err)
	}
}

func text(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// Lines for syslog are datagrams with the priority of the facility authpriv.
func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	to, err := Open(Config{Syslog: path})
	if err != nil {
		t.Fatal(err)
	}
	l := New(to)
	l.Note(Event{Kind: Limit, Action: "address", Client: "192.0.2.1"})
	_ = socket.SetReadDeadline(time.Now().Add(timeout))
	line, err := bufio.NewReader(socket).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "<85>") || !strings.Contains(line, fmt.Sprintf(" %s[%d]: {\"time\":\"", tag, os.Getpid())) || !strings.HasSuffix(line, `"client":"192.0.2.1"}`+"\n") {
		t.Errorf("%q, %v", line, err)
	}
	l.Close()
	if _, err := Open(Config{Syslog: path + "2"}); err == nil || !strings.Contains(err.Error(), "correct the path") {
		t.Errorf("a socket that is not there: %v", err)
	}
}
