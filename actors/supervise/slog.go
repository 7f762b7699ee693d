package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
)

// PanicText describes a recovered value without its data, since a value may quote a message.
// Runtime errors carry no data of a message and are shown.
func PanicText(reason any) string {
	if err, ok := reason.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("value of type %T", reason)
}

// libraryHandler is the log of the actor library: warnings and errors only, without the
// attributes that hold whole messages (the library prints the message struct of a dead
// letter).
type libraryHandler struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h libraryHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h libraryHandler) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if libraryAttr(a.Key) {
			clean.AddAttrs(a)
		}
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

// WithAttrs implements slog.Handler.
func (h libraryHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var kept []slog.Attr
	for _, a := range attrs {
		if libraryAttr(a.Key) {
			kept = append(kept, a)
		}
	}
	return libraryHandler{h.Handler.WithAttrs(kept)}
}

// WithGroup implements slog.Handler.
func (h libraryHandler) WithGroup(name string) slog.Handler {
	return libraryHandler{h.Handler.WithGroup(name)}
}

// libraryAttr reports whether an attribute may be shown: those that name things, not
// those that carry messages or recovered values.
func libraryAttr(key string) bool {
	switch key {
	case "message", "msg", "sender", "reason", "header":
		return false
	}
	return true
}
