package relay

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/wire"
)

// While nobody serves, nobody can tell: neither whether there is a user, nor whether there is
// a domain. What makes no sense is refused whoever serves.
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
