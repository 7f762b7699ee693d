package logfile

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
)

// A line that begins with <N> gets the priority N in systemd's journal (sd-daemon(3)), which has the time
// of each line itself.

// ToJournal reports whether a file, such as standard error, is connected to systemd's journal.
func ToJournal(f *os.File) bool {
	if f == nil {
		return false
	}
	var dev, inode uint64
	if n, err := fmt.Sscanf(os.Getenv("JOURNAL_STREAM"), "%d:%d", &dev, &inode); n != 2 || err != nil {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && uint64(stat.Dev) == dev && uint64(stat.Ino) == inode
}

// toJournal is ToJournal for any writer.
func toJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && ToJournal(f)
}

// priorities are those of the journal, from the highest level down.
var priorities = [...]struct {
	least slog.Level
	mark  string
}{{slog.LevelError, "<3>"}, {slog.LevelWarn, "<4>"}, {slog.LevelInfo, "<6>"}}

// priority returns the beginning of a line of a level.
func priority(l slog.Level) string {
	for _, p := range priorities {
		if l >= p.least {
			return p.mark
		}
	}
	return "<7>"
}

// priorityOf is priority for a line of slog's handlers without a time: the level comes first.
func priorityOf(line []byte) string {
	line = bytes.TrimPrefix(line, []byte(`{"level":"`))
	line = bytes.TrimPrefix(line, []byte("level="))
	end := bytes.IndexAny(line, " \"")
	var level slog.Level
	if end < 0 || level.UnmarshalText(line[:end]) != nil {
		return priority(slog.LevelInfo)
	}
	return priority(level)
}

// NewHandler returns the handler of a log that is written to a file at once, line by line, such as
// standard error.
func NewHandler(to *os.File, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if !ToJournal(to) {
		return slog.NewTextHandler(to, options)
	}
	options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.NewTextHandler(journal{to}, options)
}

// journal writes lines of a handler without their time.
type journal struct{ to io.Writer }

// Write implements io.Writer.
func (j journal) Write(line []byte) (int, error) {
	_, err := j.to.Write(append([]byte(priorityOf(line)), line...))
	return len(line), err
}

// PrintError prints the error that ends a program. It may have several lines.
func PrintError(to *os.File, text string) {
	text = strings.TrimSuffix(text, "\n")
	if ToJournal(to) {
		mark := priority(slog.LevelError)
		text = mark + strings.ReplaceAll(text, "\n", "\n"+mark)
	}
	fmt.Fprintln(to, text)
}
