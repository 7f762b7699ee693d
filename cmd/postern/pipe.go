package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"postern/cmd/internal/relay"
	"postern/internal/config"
	"postern/wire"
)

func newPipe(a *app) *cobra.Command {
	var protocol, socket string
	cmd := &cobra.Command{
		Use:   "pipe --protocol NAME",
		Short: "Answer one peer on standard input and output",
		Long: `For servers that start the broker themselves, such as ejabberd's extauth_program. Every copy
relays to the daemon that owns the data directory, and is small. Where no daemon runs, the
first copy starts a broker for all of them, which ends after the last; when it is lost, another
copy starts the next. Open questions wait for it.

Under inetd and its like standard input may be a connection (nowait), or a socket that
listens (wait): then it answers all who connect, and ends when nobody has been there for a
minute.

It ends with status 0 when standard input ends, after the last answer. A broken
configuration does not end it: it is logged, every question is answered "cannot tell", and
the work goes on when the configuration is mended.`,
		Example: `  postern pipe --protocol ejabberd --config /etc/postern/config.hcl
  postern pipe --protocol ejabberd --socket /run/postern/relay.sock`,
		// Faults of the command line are met as those of the configuration are.
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return a.misspelt(cmd, protocol, fmt.Errorf("unknown argument %q", args[0]))
			}
			if _, err := pipeDefaults(protocol); err != nil {
				return a.misspelt(cmd, protocol, err)
			}
			return a.pipe(protocol, socket)
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return a.misspelt(cmd, protocol, err) })
	cmd.Flags().StringVar(&protocol, "protocol", "", "`NAME` of the protocol: ejabberd, generic, saslauthd, tcp_table or socketmap")
	cmd.Flags().StringVar(&socket, "socket", "", "relay to the daemon at `PATH`, also while it is away, without reading a configuration")
	return cmd
}

// pipe answers standard input. What keeps it from that is logged, never the end of the process:
// a program that exits at once would end external authentication on all of ejabberd's virtual
// hosts (PROTOCOLS 3.1).
func (a *app) pipe(protocol, socket string) error {
	leaveInherited(a.in)
	settings, err := a.pipeSettings(protocol, socket)
	if err != nil {
		return a.standIn(protocol, err, func() error {
			_, err := a.pipeSettings(protocol, socket)
			return err
		})
	}
	return a.relay(settings)
}

// misspelt deals with a faulty command line: people are told, servers are answered.
func (a *app) misspelt(cmd *cobra.Command, protocol string, err error) error {
	err = fmt.Errorf("%w: see `%s --help`", err, cmd.CommandPath())
	if byHand(a.in) {
		return err
	}
	return a.standIn(protocol, err, func() error { return err })
}

// byHand reports whether a person types. Terminals that programs make do not echo.
func byHand(f *os.File) bool {
	mode, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && mode.Lflag&unix.ECHO != 0
}

// pipeSettings finds out how standard input is to be served: with the limits of the protocol's
// first listener, through the owner of the configuration's data directory.
func (a *app) pipeSettings(protocol, socket string) (relay.Settings, error) {
	front, err := pipeDefaults(protocol)
	if err != nil {
		return relay.Settings{}, err
	}
	if socket != "" {
		place := relay.Stderr
		if sameFile(a.out, a.err) {
			place = relay.Nowhere
		}
		s := relaySettings(front, place)
		s.Socket = socket
		return s, nil
	}
	cfg, err := a.load(nil)
	if err != nil {
		return relay.Settings{}, err
	}
	for _, l := range cfg.Listeners {
		if l.Protocol == protocol {
			front = l
			break
		}
	}
	dir, err := relayDir(cfg)
	if err != nil {
		return relay.Settings{}, err
	}
	s := relaySettings(front, a.pipeLog(cfg, dir))
	s.Socket, s.Lock = filepath.Join(dir, relaySocket), filepath.Join(dir, ownerLock)
	s.Elsewhere = filepath.Join(runtimeStandIn(runtimeDir, cfg), relaySocket)
	s.Owner, err = a.ownerCommand(cfg, dir)
	return s, err
}

func relaySettings(front config.Listener, log string) relay.Settings {
	return relay.Settings{
		Protocol: front.Protocol, DefaultDomain: front.DefaultDomain, Deadline: front.Deadline,
		Pipeline: front.Pipeline, MaxFrame: front.MaxFrame, BinaryAnswers: front.BinaryAnswers,
		Delimiter: front.RecipientDelimiter, Log: log,
	}
}

// relay serves standard input. It becomes postern-relay, if that stands beside this program: the
// same work in a sixth of the memory. Otherwise it does the work itself.
func (a *app) relay(s relay.Settings) error {
	if self, err := os.Executable(); err == nil {
		small := filepath.Join(filepath.Dir(self), "postern-relay")
		_ = syscall.Exec(small, append([]string{small}, s.Args()...), os.Environ())
	}
	relay.Main(s)
	return nil
}

// pipeDefaults are the limits of a protocol when the configuration has no listener for it.
func pipeDefaults(protocol string) (config.Listener, error) {
	if protocol == string(wire.Dovecot) {
		return config.Listener{}, errors.New("--protocol dovecot is for sockets only: add listen \"dovecot\" to the configuration of `postern serve`")
	}
	l, known := config.DefaultListener(protocol)
	if known && l.Protocol == protocol && protocol != string(wire.Relay) { // nor a name of xcauth's units
		return l, nil
	}
	return config.Listener{}, fmt.Errorf("--protocol %q is not one of ejabberd, generic, saslauthd, tcp_table and socketmap: name the one that your server speaks", protocol)
}

// pipeLog is where a pipe logs. Standard error is the log only if it is not where the protocol
// goes: on a pseudo-terminal both are one line to the peer, and a log line there would be taken
// for an answer. It is the log, too, where the file of the log block cannot be opened.
func (a *app) pipeLog(cfg *config.Config, dir string) string {
	place := relay.Stderr
	if sameFile(a.out, a.err) {
		place = filepath.Join(dir, "pipe.log")
	}
	file, err := openLog(cfg.Log.File)
	switch {
	case err != nil:
		relay.OpenLog(place).Error("the log stands here instead", "err", err)
	case file != nil:
		_ = file.Close()
		return cfg.Log.File
	}
	return place
}

// sameFile reports whether two descriptors lead to the same place, or that cannot be told.
func sameFile(a, b *os.File) bool {
	x, errA := a.Stat()
	y, errB := b.Stat()
	return errors.Join(errA, errB) != nil || os.SameFile(x, y)
}
