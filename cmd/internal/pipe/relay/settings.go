package relay

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"postern/wire"
)

// Settings are the command line of a relay.
type Settings struct {
	Protocol      string
	Socket        string // of the daemon or broker
	Elsewhere     string // see Options
	DefaultDomain string
	Deadline      time.Duration
	Pipeline      int
	MaxFrame      int
	BinaryAnswers bool
	Delimiter     string   // see wire.Options.RecipientDelimiter
	Log           string   // see OpenLog
	Lock          string   // empty: never start a broker
	Broker        []string // the command that starts it
}

// Args returns the command line that Parse reads. Newer flags come last: a postern-relay of an older
// version understands those before them.
func (s *Settings) Args() []string {
	return append([]string{
		"-log", s.Log, "-protocol", s.Protocol, "-socket", s.Socket, "-default-domain", s.DefaultDomain,
		"-deadline", s.Deadline.String(), "-pipeline", strconv.Itoa(s.Pipeline),
		"-max-frame", strconv.Itoa(s.MaxFrame), "-binary-answers=" + strconv.FormatBool(s.BinaryAnswers),
		"-recipient-delimiter", s.Delimiter, "-lock", s.Lock, "-elsewhere", s.Elsewhere, "--",
	}, s.Broker...)
}

// Parse reads a command line. With an error the settings hold what came before the fault.
func Parse(args []string) (s Settings, err error) {
	flags := flag.NewFlagSet("postern-relay", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // standard error may be connected to the peer
	flags.StringVar(&s.Protocol, "protocol", "", "protocol of the peer")
	flags.StringVar(&s.Socket, "socket", "", "socket of the daemon")
	flags.StringVar(&s.DefaultDomain, "default-domain", "", "for logins that carry no domain")
	flags.DurationVar(&s.Deadline, "deadline", 4*time.Second, "every request is answered within it")
	flags.IntVar(&s.Pipeline, "pipeline", 64, "requests under way at once")
	flags.IntVar(&s.MaxFrame, "max-frame", 0, "bytes of a request")
	flags.BoolVar(&s.BinaryAnswers, "binary-answers", false, "never answer 2")
	flags.StringVar(&s.Delimiter, "recipient-delimiter", "", "begins the extension of an address")
	flags.StringVar(&s.Log, "log", Stderr, "log file; empty: standard error; -: nowhere")
	flags.StringVar(&s.Lock, "lock", "", "start the command that follows when no process holds this lock")
	flags.StringVar(&s.Elsewhere, "elsewhere", "", "socket of a daemon that could not open the other one")
	err = flags.Parse(args)
	s.Broker = flags.Args()
	return s, err
}

// Main relays standard input until it ends, or until a signal: SIGTERM, SIGINT, or SIGHUP, which
// comes when the peer closes a pseudo-terminal. The caller then exits with status 0, whatever
// happened: Prosody does not restart a program that ends with another status or by a signal.
func Main(s Settings) {
	CloseOnExec()
	log := OpenLog(s.Log)
	signal.Ignore(syscall.SIGPIPE, syscall.SIGUSR1)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	options := func() Options { return s.options(log) }
	var err error
	switch {
	case Listens(os.Stdin):
		err = Serve(ctx, os.Stdin, options, inetdIdle)
	case wire.Protocol(s.Protocol) == wire.Generic && OnTerminal(os.Stdin, os.Stdout):
		signal.Ignore(syscall.SIGTTOU)
		if arrivals := NewArrivals(os.Stdin); !arrivals.OpenTerminal(os.Stdout) {
			err = Run(ctx, ptyInput{arrivals}, os.Stdout, options().strictDeadline())
		}
	default:
		err = Run(ctx, os.Stdin, os.Stdout, options())
	}
	if err != nil {
		log.Error("relay ended", "err", err)
	}
}

func (s *Settings) options(log *slog.Logger) Options {
	o := Options{
		Protocol: wire.Protocol(s.Protocol), DefaultDomain: s.DefaultDomain,
		Wire:     wire.Options{MaxFrame: s.MaxFrame, BinaryAnswers: s.BinaryAnswers, RecipientDelimiter: s.Delimiter},
		Deadline: s.Deadline, Pipeline: s.Pipeline, Log: log, Socket: s.Socket, Elsewhere: s.Elsewhere,
		RefuseChanges: isSocket(os.Stdin),
	}
	if s.Lock != "" && len(s.Broker) > 0 {
		o.Spawner = &Spawner{Lock: s.Lock, Command: s.Broker, Log: s.Log}
	}
	return o
}
