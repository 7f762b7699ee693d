package relay

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/wire"
)

// Without a daemon every question is a temporary failure, about a user and about a domain. A
// malformed request is refused all the same.
func TestRunWithoutDaemon(t *testing.T) {
	for question, want := range map[string]string{
		"23:mailbox joe@dom.example,": "20:TEMP try again later,",
		"18:domain dom.example,":      "20:TEMP try again later,",
		"13:domain d@main,":           "9:NOTFOUND ,",
	} {
		var out bytes.Buffer
		err := Run(context.Background(), strings.NewReader(question), &out, Options{
			Protocol: wire.Socketmap, Deadline: time.Millisecond, Pipeline: 1,
			Socket: filepath.Join(t.TempDir(), "none.sock"), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil || out.String() != want {
			t.Errorf("%s answered %q, %v, want %q", question, out.String(), err, want)
		}
	}
}

// The daemon is told for which service a login is: it cannot know the protocol of this end.
func TestRelaySaysService(t *testing.T) {
	for protocol, want := range map[wire.Protocol]string{wire.Ejabberd: "xmpp", wire.Generic: "xmpp", wire.Saslauthd: ""} {
		r := &relay{Options: Options{Protocol: protocol}}
		r.enqueue(decoded{req: auth.Request{Op: auth.OpAuth, User: "joe"}}, true)
		r.enqueue(decoded{req: auth.Request{Op: auth.OpAuth, User: "joe", Service: "imap"}}, true)
		if got := r.queue.items; got[0].req.Service != want || got[1].req.Service != "imap" {
			t.Errorf("%s: %q and %q", protocol, got[0].req.Service, got[1].req.Service)
		}
	}
}

// A log that is a FIFO without a reader loses its lines, and delays no question.
func TestLogIsAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	OpenLog(path).Info("not waited for")
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	OpenLog(path).Info("waited for")
	if said, err := io.ReadAll(reader); err != nil || !strings.Contains(string(said), `msg="waited for"`) || strings.Contains(string(said), "not") {
		t.Errorf("the reader got %q, %v", said, err)
	}
}
