package relay

import (
	"log/slog"
	"os"
)

// Places of a log that are not files.
const (
	Stderr  = ""
	Nowhere = "-"
)

// OpenLog makes the log of a relay: text lines, for a relay says little. place is a file,
// Stderr or Nowhere. A file that cannot be opened is nowhere, since standard error may be the
// peer's line.
func OpenLog(place string) *slog.Logger {
	f, err := openLogFile(place)
	if err != nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(f, nil))
}

func openLogFile(place string) (*os.File, error) {
	switch place {
	case Stderr:
		return os.Stderr, nil
	case Nowhere:
		place = os.DevNull
	}
	return os.OpenFile(place, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
}
