package relay

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
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
	Table         string   // see wire.Options
	FixedDomain   string   // see wire.Options
	Dump          string   // a file to which SIGUSR1 writes how the relay stands; empty: it does nothing
	Log           string   // see OpenLog
	Lock          string   // empty: never start a broker
	Broker        []string // the command that starts it
}

// Args returns the command line that Parse reads. Newer flags come last: a postern-relay of an older
// version understands those before them.
func (s *Settings) Args() []string {
	args := []string{
		"-log", s.Log, "-protocol", s.Protocol, "-socket", s.Socket, "-default-domain", s.DefaultDomain,
		"-deadline", s.Deadline.String(), "-pipeline", strconv.Itoa(s.Pipeline),
		"-max-frame", strconv.Itoa(s.MaxFrame), "-binary-answers=" + strconv.FormatBool(s.BinaryAnswers),
		"-recipient-delimiter", s.Delimiter, "-lock", s.Lock, "-elsewhere", s.Elsewhere,
	}
	if s.Table != "" {
		args = append(args, "-table", s.Table)
	}
	if s.FixedDomain != "" {
		args = append(args, "-fixed-domain", s.FixedDomain)
	}
	if s.Dump != "" {
		args = append(args, "-dump", s.Dump)
	}
	return append(append(args, "--"), s.Broker...)
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
	flags.StringVar(&s.Table, "table", "", "what tcp_table serves")
	flags.StringVar(&s.FixedDomain, "fixed-domain", "", "of every saslauthd login")
	flags.StringVar(&s.Dump, "dump", "", "file to which SIGUSR1 writes")
	err = flags.Parse(args)
	s.Broker = flags.Args()
	return s, err
}

// Main relays standard input until it ends, or until SIGTERM or SIGINT. SIGHUP, which also comes when
// the peer closes a pseudo-terminal, ends it there only. The caller then exits with status 0, whatever
// happened: Prosody does not restart a program that ends with another status or by a signal.
func Main(s Settings) {
	CloseOnExec()
	log := OpenLog(s.Log)
	ctx, stop := signal.NotifyContext(context.Background(), Endings(OnTerminal(os.Stdin, os.Stdout))...)
	defer stop()
	if s.Dump != "" {
		defer s.dumps()()
	}
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

// Endings are the signals that end a pipe. It sets what the others do: nothing.
func Endings(terminal bool) []os.Signal {
	signal.Ignore(syscall.SIGPIPE, syscall.SIGUSR1)
	ends := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if terminal {
		return append(ends, syscall.SIGHUP)
	}
	signal.Ignore(syscall.SIGHUP)
	return ends
}

// dumps has SIGUSR1 write to the file, which is opened each time: it may have been rotated. The text
// has the name of xcauth's thread, by which its users search.
func (s *Settings) dumps() (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			f, err := os.OpenFile(s.Dump, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
			if err != nil {
				continue
			}
			fmt.Fprintf(f, "%s MainThread: process %d relays %s to %s, with %d goroutines\n",
				time.Now().Format(time.RFC3339), os.Getpid(), s.Protocol, s.Socket, runtime.NumGoroutine())
			_ = f.Close()
		}
	}()
	return func() { signal.Stop(signals); close(signals) }
}

func (s *Settings) options(log *slog.Logger) Options {
	o := Options{
		Protocol: wire.Protocol(s.Protocol), DefaultDomain: s.DefaultDomain,
		Wire: wire.Options{
			MaxFrame: s.MaxFrame, BinaryAnswers: s.BinaryAnswers, RecipientDelimiter: s.Delimiter,
			Table: s.Table, FixedDomain: s.FixedDomain,
		},
		Deadline: s.Deadline, Pipeline: s.Pipeline, Log: log, Socket: s.Socket, Elsewhere: s.Elsewhere,
		RefuseChanges: isSocket(os.Stdin),
	}
	if s.Lock != "" && len(s.Broker) > 0 {
		o.Spawner = &Spawner{Lock: s.Lock, Command: s.Broker, Log: s.Log}
	}
	return o
}
