package admin

import (
	"log/slog"
	"os"

	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/logfile"
)

// note writes a call that was carried out without a daemon to the audit log.
func note(cfg *config.Config, path string, req control.Request, reply any, err error) {
	if e, ok := control.Event(path, req, reply, err); ok {
		Note(cfg, e)
	}
}

// Note writes what a command has done to the audit log of a configuration, if it has one. The command has been
// carried out, so that a fault of the log is only reported.
func Note(cfg *config.Config, e audit.Event) {
	to, err := audit.Open(audit.Config(cfg.Audit))
	if err != nil {
		slog.New(logfile.NewHandler(os.Stderr, slog.LevelWarn)).Warn("the audit log cannot be written", "err", err)
	}
	if to == nil {
		return
	}
	log := audit.New(to)
	e.By = datadir.UserName(os.Getuid())
	log.Note(e)
	log.Close()
}
