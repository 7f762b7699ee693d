package supervise

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestLibraryLog: of what the actor library logs, warnings and errors are kept, without the
// attributes that hold messages and recovered values.
func TestLibraryLog(t *testing.T) {
	out := new(bytes.Buffer)
	log := slog.New(libraryHandler{slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})})
	log = log.With("message", "hunter2", "system", "postern").WithGroup("group")
	log.Info("[DeadLetter]", "pid", "x")
	log.Error("failed", "pid", "router", "reason", "hunter2", "sender", "hunter2", "msg", "hunter2", "header", "hunter2")
	text := out.String()
	if strings.Contains(text, "hunter2") || strings.Contains(text, "DeadLetter") {
		t.Errorf("the log says %q", text)
	}
	for _, want := range []string{"failed", "pid=router", "system=postern"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %s", text, want)
		}
	}
}
