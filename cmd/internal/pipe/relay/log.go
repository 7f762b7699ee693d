package relay

import (
	"log/slog"
	"os"
	"syscall"

	"postern/internal/logfile"
)

// Places for OpenLog that are not files.
const (
	Stderr  = ""
	Nowhere = "-"
)

// OpenLog makes the log of a relay, as text lines. place is a file, Stderr or Nowhere. What cannot
// be written to a file is lost: standard error may be connected to the peer.
func OpenLog(place string) *slog.Logger {
	switch place {
	case Stderr:
		return slog.New(logfile.NewHandler(os.Stderr, slog.LevelInfo))
	case Nowhere:
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(logFile(place), nil))
}

// logFile opens the file for each line, so that rotation needs no signal.
type logFile string

// Write implements io.Writer.
func (l logFile) Write(line []byte) (int, error) {
	f, err := openLogFile(string(l))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Write(line)
}

func openLogFile(place string) (*os.File, error) {
	switch place {
	case Stderr:
		return os.Stderr, nil
	case Nowhere:
		place = os.DevNull
	}
	return os.OpenFile(place, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o640) // do not wait for the reader of a FIFO
}
