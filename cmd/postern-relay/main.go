// Command postern-relay is the small end of `postern pipe`: it answers one peer on standard
// input and output through the daemon. `postern pipe` becomes this
// program when it stands beside it; nobody else needs to call it.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"postern/cmd/internal/relay"
	"postern/wire"
)

func main() {
	var o relay.Options
	var protocol, logFile string
	flag.StringVar(&protocol, "protocol", "", "protocol of the peer")
	flag.StringVar(&o.Socket, "socket", "", "socket of the daemon")
	flag.StringVar(&o.DefaultDomain, "default-domain", "", "for logins that carry no domain")
	flag.DurationVar(&o.Deadline, "deadline", 4*time.Second, "every request is answered within it")
	flag.IntVar(&o.Pipeline, "pipeline", 64, "requests under way at once")
	flag.IntVar(&o.Wire.MaxFrame, "max-frame", 0, "bytes of a request")
	flag.BoolVar(&o.Wire.BinaryAnswers, "binary-answers", false, "never answer 2")
	flag.StringVar(&logFile, "log", "", "log file; empty: standard error; -: nowhere")
	flag.Parse()
	o.Protocol = wire.Protocol(protocol)
	o.Log = newLog(logFile)
	signal.Ignore(syscall.SIGPIPE, syscall.SIGUSR1)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	if err := relay.Run(ctx, os.Stdin, os.Stdout, o); err != nil {
		o.Log.Error("relay ended", "err", err)
	}
	// The status is 0 whatever happened: Prosody does not start a program again that ended
	// with another one (PROTOCOLS 3.2).
}

// newLog writes text lines: a relay says little.
func newLog(file string) *slog.Logger {
	switch file {
	case "":
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	case "-":
		return slog.New(slog.DiscardHandler)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return slog.New(slog.DiscardHandler) // standard error may be the peer's line
	}
	return slog.New(slog.NewTextHandler(f, nil))
}
